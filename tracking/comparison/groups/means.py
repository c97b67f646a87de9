"""Means over runs: their intervals, differences, and what so few runs could have shown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import stats
from scipy.optimize import brentq

LEVEL = 0.95
POWER = 0.8


@dataclass(frozen=True)
class Mean:
    """A mean over runs with Student's 95 % interval; of one run it is not known."""

    value: float
    low: float
    high: float
    p: float = math.nan  # two-sided, that it is 0
    smallest: float = math.nan  # true value that a test at 0.05 shows in 80 % of such studies


def mean(values: np.ndarray) -> Mean:
    """Of values [run]; runs without a number are left out."""
    values = values[~np.isnan(values)]
    if not len(values):
        return Mean(math.nan, math.nan, math.nan)
    if len(values) == 1:
        return Mean(float(values[0]), -math.inf, math.inf)
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return _mean(float(values.mean()), error, len(values) - 1, 0.5 ** (len(values) - 1))


def difference(values: np.ndarray, others: np.ndarray) -> Mean:
    """The mean of `values` [run] less that of `others` [run], of runs that are not paired (Welch,
    1947)."""
    values, others = values[~np.isnan(values)], others[~np.isnan(others)]
    if not len(values) or not len(others):
        return Mean(math.nan, math.nan, math.nan)
    by = float(values.mean() - others.mean())
    if min(len(values), len(others)) < 2:
        return Mean(by, -math.inf, math.inf)
    squares = [float(each.var(ddof=1)) / len(each) for each in (values, others)]
    error = math.sqrt(sum(squares))
    each = zip(squares, (len(values), len(others)), strict=True)
    freedom = error**4 / max(sum(square**2 / (count - 1) for square, count in each), 1e-300)
    ways = math.comb(len(values) + len(others), len(values))
    return _mean(by, error, max(freedom, 1.0), min(2 / ways, 1.0))


def _mean(value: float, error: float, freedom: float, alike: float) -> Mean:
    """`alike` is p where runs do not vary at all: that of the same order by chance. Student's t
    would be sure of two runs that agree."""
    if error < 1e-12:
        return Mean(value, value, value, 1.0 if abs(value) < 1e-12 else alike)
    t = stats.t(freedom)
    half = float(t.isf((1 - LEVEL) / 2)) * error
    p = float(2 * t.sf(abs(value) / error))
    return Mean(value, value - half, value + half, p, _shown_at(freedom) * error)


@lru_cache
def _shown_at(freedom: float) -> float:
    """The true value, in standard errors, whose t is beyond the test's in `POWER` of studies: by
    the noncentral t, as with few runs the normal's is too small."""
    beyond = float(stats.t(freedom).isf((1 - LEVEL) / 2))

    def lacking(true: float) -> float:
        return float(stats.nct(freedom, true).sf(beyond)) - POWER

    root: Any = brentq(lacking, 0.1, 10 * beyond)
    return root
