"""Records of small models, by quick settings."""

from collections.abc import Sequence
from typing import Any

from tracking.analysis import record
from tracking.contrast import Before, Subject
from tracking.ledger.record import Analysis, Record
from tracking.ledger.reward import Reward
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.settings import Settings


def recorded(
    model: Any, pairs: PromptPairs, step: int = 0, earlier: Sequence[Record] = (), **more: Any
) -> Record:
    """The record of a model, after those of earlier checkpoints; `more` are settings."""
    quick = Settings(**{"ig_steps": 4, "max_ig_steps": 8, "resamples": 50, **more})
    before = {"pairs": Before.of([one.analyses["pairs"] for one in earlier], quick.rank)}
    reward = Reward(0.5, "reward")
    return record(model, {"pairs": pairs}, quick, step, reward, Subject(), before=before)


def analysed(model: Any, pairs: PromptPairs, **more: Any) -> Analysis:
    return recorded(model, pairs, **more).analyses["pairs"]


def in_a_row(models: Sequence[Any], pairs: PromptPairs, **more: Any) -> list[Record]:
    """The records of models as the checkpoints of a run, at steps 0, 1, 2 ..."""
    records: list[Record] = []
    for step, model in enumerate(models):
        records.append(recorded(model, pairs, step, records, **more))
    return records
