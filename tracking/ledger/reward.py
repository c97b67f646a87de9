"""What training was after between two checkpoints, read from the trainer's log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

NAMES = ("reward", "eval_mean_token_accuracy", "loss")
PART = re.compile(r"rewards/(.+)/mean")  # TRL's name for the mean of one reward function


@dataclass(frozen=True)
class Reward:
    """What training was after, between two checkpoints: its value and under which name.

    `parts` has the mean of every reward function that was logged, by the function's name.
    """

    value: float | None
    name: str
    parts: dict[str, float] = field(default_factory=dict)


def reward_between(
    log_history: Sequence[Mapping], after: int, upto: int, expected: str = "reward"
) -> Reward:
    """The mean over the logged training steps in (`after`, `upto`].

    `reward` where the trainer logs one (GRPO); else the evaluation's token accuracy, else the loss,
    by their own names. Without any of them the value is missing and its name is `expected`.
    """
    rows = [row for row in log_history if after < row.get("step", 0) <= upto]
    parts = _parts(rows)
    for name in NAMES:
        values = [float(row[name]) for row in rows if name in row]
        if values:
            return Reward(fmean(values), name, parts)
    return Reward(None, expected, parts)


def _parts(rows: Iterable[Mapping]) -> dict[str, float]:
    """The mean of each reward function; TRL logs NaN where one judged no completion."""
    logged: dict[str, list[float]] = {}
    for row in rows:
        for key, value in row.items():
            part = PART.fullmatch(key)
            if part and not np.isnan(value):
                logged.setdefault(part[1], []).append(float(value))
    return {name: fmean(values) for name, values in logged.items()}
