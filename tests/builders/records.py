"""Records of small models, by quick settings."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from tests.builders.analyses import flat
from tracking.analysis import record
from tracking.contrast import Before, Subject
from tracking.ledger.record import Analysis, Record
from tracking.ledger.reward import Reward
from tracking.nodes.weight_change import snapshot
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.settings import Settings


def recorded(
    model: Any,
    pairs: PromptPairs,
    step: int = 0,
    earlier: Sequence[Record] = (),
    subject: Subject | None = None,
    **more: Any,
) -> Record:
    """The record of a model, after those of earlier checkpoints; `more` are settings."""
    quick = Settings(**{"ig_steps": 4, "max_ig_steps": 8, "resamples": 50, **more})
    before = {"pairs": Before.of([one.analyses["pairs"] for one in earlier], quick.rank)}
    reward = Reward(0.5, "reward")
    subject = subject or Subject()
    return record(model, {"pairs": pairs}, quick, step, reward, subject, before=before)


def analysed(model: Any, pairs: PromptPairs, **more: Any) -> Analysis:
    return recorded(model, pairs, **more).analyses["pairs"]


def in_a_row(models: Sequence[Any], pairs: PromptPairs, **more: Any) -> list[Record]:
    """The records of models as the checkpoints of a run, at steps 0, 1, 2 ..."""
    records: list[Record] = []
    for step, model in enumerate(models):
        records.append(recorded(model, pairs, step, records, **more))
    return records


def assert_second_record_alike(
    on_both: Callable[[Callable[[Any], Any]], tuple[Any, Any]],
    model: Any,
    base: Any,
    pairs: PromptPairs,
    **more: Any,
) -> None:
    """The second record of a run that began with `base`, which has all parts, is the same in both
    places of `on_both`, to 1e-5, and lies on the CPU; `more` are settings."""
    first, subject = recorded(model, pairs), Subject(snapshot(base), torch.arange(10))
    here, there = on_both(lambda of: recorded(of, pairs, 1, [first], subject, **more))
    ours, theirs = (flat(one.analyses["pairs"]) for one in (here, there))
    assert "wiring_kept" in ours
    for name, values in ours.items():
        if isinstance(values, torch.Tensor):
            assert theirs[name].device.type == "cpu"
            assert torch.allclose(values.float(), theirs[name].float(), atol=1e-5, equal_nan=True)
