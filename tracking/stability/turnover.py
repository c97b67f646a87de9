"""How much of a circuit comes and goes between two checkpoints, beside how much of it does between
two resamples of the pairs on one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tracking.stability.sets import jaccard

ENDS = ("", "_low", "_high")


def turnover(now: Tensor | None, before: Tensor | None) -> dict[str, float]:
    """Of the circuits' members, BoolTensors [resample, member] of the same resamples of the pairs;
    None where they are not known. All figures are means over resamples, NaN where not known.

    `turnover`: share of the members at either checkpoint that are not members at both, with its
    95 % interval `_low` and `_high`. `null`: the same between every resample and the next on the
    checkpoint of `now`, and its 97.5 % percentile `null_high`. `turnover_less_null`: what is left
    of every resample's turnover without the mean of its nulls at the two checkpoints, with its
    interval; it is below 0 where another draw of the pairs would change more.
    """
    means = [f"{name}{end}" for name in ("turnover", "turnover_less_null") for end in ENDS]
    out = dict.fromkeys([*means, "null", "null_high"], np.nan)
    if now is None:
        return out
    null = _to_the_next(now)
    out |= {"null": float(null.mean()), "null_high": float(null.quantile(0.975))}
    if before is None or before.shape != now.shape:
        return out
    turned = 1 - jaccard(before, now)
    less = turned - (null + _to_the_next(before)) / 2
    return out | _with_ends("turnover", turned) | _with_ends("turnover_less_null", less)


def _to_the_next(inside: Tensor) -> Tensor:
    """Float32 [resample]: what of the members of a resample or of the next is not in both."""
    return 1 - jaccard(inside, inside.roll(-1, 0))


def _with_ends(name: str, draws: Tensor) -> dict[str, float]:
    values = (draws.mean(), *draws.quantile(torch.tensor([0.025, 0.975])))
    return {f"{name}{end}": float(value) for end, value in zip(ENDS, values, strict=True)}
