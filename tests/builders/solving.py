"""Simulated accuracies of a model with heads on and off, on one benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit


@dataclass(frozen=True)
class Heads:
    """Heads that change a problem's log-odds of being solved by `effect`, give or take `spread`."""

    effect: float
    spread: float = 0.0


def solved(
    rng: np.random.Generator,
    problems: int,
    samples: int,
    off: Sequence[Heads],
    shared: float,
) -> np.ndarray:
    """Accuracies [1 + len(off), problem]: all heads on, then each of `off`.

    `shared`: how many of the responses are drawn with the chance of those with all heads on, so
    that only their odds tell them apart; the others are drawn afresh.
    """
    easy = rng.normal(0.3, 1.7, problems)
    changes = [heads.effect + heads.spread * rng.normal(size=problems) for heads in off]
    odds = easy + np.array([np.zeros(problems), *changes])
    chance, fresh = rng.random((problems, samples)), rng.random((len(odds), problems, samples))
    same = rng.random(fresh.shape) < shared
    same[0] = True
    return (np.where(same, chance, fresh) < expit(odds)[..., None]).mean(-1)
