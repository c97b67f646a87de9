"""Wiring between any checkpoints of a run: the ranking of one, tried in the model of another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
from torch import Tensor, nn

from tracking.circuits.faithfulness import Experiment
from tracking.circuits.wiring import kept_by
from tracking.contrast import METRIC
from tracking.errors import BadInput
from tracking.ledger.record import Record
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.stability.bootstrap import resamples

RESAMPLES = 200
COLUMNS = ("contrast", "step", "ranked_by", "edges", "wiring_kept", "low", "high")


def rewiring(
    records: Sequence[Record],
    pairs: Mapping[str, PromptPairs],
    models: Mapping[int, Callable[[], nn.Module]],
    batch_size: int = 64,
) -> pd.DataFrame:
    """One row per contrast, checkpoint and ranking: at every step of which there is a model, what
    circuits ranked by the scores of the checkpoint before and of the last one carry, over what its
    own carry, with the 95 % paired interval over pairs.

    `ranked_by` is the step of the ranking, `edges` the run's size at the last record. `models`
    loads each step's. Raises `BadInput` where fewer than two records have a model.
    """
    steps = [record.step for record in records]
    there = [record for record in records if record.step in models]
    if len(there) < 2:
        raise BadInput(
            f"{len(there)} of {len(records)} records have their checkpoint still: wiring between "
            "checkpoints takes at least 2"
        )
    rows = []
    for record in there:
        model, place = models[record.step](), steps.index(record.step)
        by_step = {one.step: one for one in (*records[max(place - 1, 0) : place], records[-1])}
        by_step.pop(record.step, None)
        others = list(by_step.values())
        for contrast, of_contrast in pairs.items():
            tried = Experiment.of(model, of_contrast, METRIC, min(batch_size, len(of_contrast)))
            size = records[-1].analyses[contrast].circuit.size
            rows += _rows(tried, record, others, contrast, size)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(
    tried: Experiment, record: Record, others: Sequence[Record], contrast: str, size: int
) -> list[tuple]:
    """Of one checkpoint, by the rankings of the others."""
    own, *rankings = (_ranked(one, contrast) for one in (record, *others))
    kept = kept_by(tried, rankings, own, size, resamples(RESAMPLES, len(tried.pairs)))
    ends = zip(kept.value.tolist(), kept.low.tolist(), kept.high.tolist(), strict=True)
    by_other = zip(others, ends, strict=True)
    return [(contrast, record.step, one.step, size, *end) for one, end in by_other]


def _ranked(record: Record, contrast: str) -> Tensor:
    """Float32 [source, target], the scores that the run's edges are ranked by."""
    scores = record.analyses[contrast].scores
    return scores.strength if record.settings.get("rank") == "absolute" else scores.edge_scores
