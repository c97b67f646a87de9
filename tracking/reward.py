"""The reward that stands beside the heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

NAMES = ("reward", "eval_mean_token_accuracy", "loss")


@dataclass(frozen=True)
class Reward:
    """What training was after, between two checkpoints: its value and under which name."""

    value: float | None
    name: str


def reward_between(
    log_history: Sequence[Mapping], after: int, upto: int, expected: str = "reward"
) -> Reward:
    """The mean over the logged training steps in (`after`, `upto`].

    `reward` where the trainer logs one (GRPO); else the evaluation's token accuracy, else the loss,
    by their own names. Without any of them the value is missing and its name is `expected`.
    """
    rows = [row for row in log_history if after < row.get("step", 0) <= upto]
    for name in NAMES:
        values = [float(row[name]) for row in rows if name in row]
        if values:
            return Reward(fmean(values), name)
    return Reward(None, expected)
