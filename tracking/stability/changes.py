"""Tests of change: between two checkpoints, beyond resampling of the pairs; over a run, beyond the
run's own fluctuation; and their correction for how many there are."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import stats

WALKS = 50_000  # random walks that give the null of `walk_p`: p of 2e-5 at the least
LONGEST = 60  # increments of a walk; the null of longer runs is this one's, which is wider
COMMON = 8  # paths that move, of which a pace can be told
STILL = 1e-9  # of a pace: a checkpoint at which nothing moved
SCALES = (None, 0.01, 0.002)  # a walk may be additive, or grow with the share itself


def change_p(draws_now: np.ndarray, draws_then: np.ndarray, pairs: np.ndarray | int) -> np.ndarray:
    """Two-sided p [...] that a figure is the same at two checkpoints, from its values on the same
    bootstrap resamples, [resample, ...] each, of so many `pairs`, one number or [...].

    Student's, with the bootstrap's standard error of the paired difference, so that p can be as
    small as a correction over many nodes takes; the percentiles of a few hundred resamples could
    not. Degrees of freedom are those of an error known from `pairs` values by so many resamples
    (Welch and Satterthwaite). 1 where a draw is not finite, where nothing differs, and of one pair.
    """
    difference = draws_now - draws_then
    known = np.isfinite(difference).all(axis=0) & (np.asarray(pairs) > 1)
    difference = np.where(known, difference, 0.0)
    others = np.maximum(pairs, 2) - 1
    mean, error = difference.mean(axis=0), difference.std(axis=0, ddof=1)
    error = error * np.sqrt((others + 1) / others)  # a resample takes its pairs for all there are
    size = np.divide(np.abs(mean), error, out=np.full(mean.shape, np.inf), where=error > 0)
    freedom = 1 / (1 / others + 1 / (len(difference) - 1))
    return np.where(known & (mean != 0), 2 * stats.t.sf(size, freedom), 1.0)


def discoveries(p: np.ndarray, level: float) -> np.ndarray:
    """bool, of p-values of any shape: which are significant after Benjamini and Hochberg (1995)
    over all of them."""
    if not p.size:
        return np.zeros(p.shape, dtype=bool)
    return stats.false_discovery_control(p.ravel()).reshape(p.shape) <= level


def spent(level: float, look: int) -> float:
    """The part of an error rate that the test at a look (1, 2, ...) may spend, so that all looks
    together stay within it however many there will be: no look depends on later ones."""
    return level / (look * (look + 1))


def walk_p(paths: np.ndarray) -> np.ndarray:
    """p [...] that paths [step, ...] end where they do by fluctuating as they do: the null is a
    random walk with the path's own increments, at a pace that all paths share.

    The statistic is the distance from first to last, over the spread that such a walk would have.
    The scale of its increments is the median of |second difference|, which neither a steady trend
    nor a single jump raises, each relative to that of all paths there: a run whose learning rate
    decays moves less and less. The null of the ratio is that of Gaussian walks, by simulation.
    Since the steps of a walk may grow with its level, the same is asked of asinh(path / c), and the
    largest p counts. Independent noise about a level is a special case in which the test is too
    careful by far; walks of heavy-tailed or of autocorrelated steps are not in the null, and pass
    too often. NaN where there are fewer than 5 increments.
    """
    steps = len(paths) - 1
    if steps < 5:
        return np.full(paths.shape[1:], np.nan)
    flat = paths.reshape(len(paths), -1)
    each = [_walk_p(flat if c is None else np.arcsinh(flat / c)) for c in SCALES]
    return np.max(each, axis=0).reshape(paths.shape[1:])


def _walk_p(paths: np.ndarray) -> np.ndarray:
    increments = np.diff(paths, axis=0)
    pace = _pace(increments)
    moved = int((pace > STILL).sum()) + 1  # where nothing moves a walk makes no step
    if moved < 5:
        return np.ones(paths.shape[1])
    null, statistic = _null(min(moved, LONGEST)), _statistic(increments, pace)
    beyond = len(null) - np.searchsorted(null, statistic, side="left")
    return (beyond + 1) / (len(null) + 1)


def _pace(increments: np.ndarray) -> np.ndarray:
    """float [step - 1]: how much paths with these increments, [step, path], fluctuate around each
    checkpoint, against what they do in the median; 1 where too few do to tell."""
    size = np.abs(np.diff(increments, axis=0))
    own = np.median(size, axis=0)
    own = np.where(own > 0, own, size.mean(axis=0))
    moving = own > 0
    if moving.sum() < COMMON:
        return np.ones(len(size))
    return np.median(size[:, moving] / own[moving], axis=1)


def _statistic(increments: np.ndarray, pace: np.ndarray) -> np.ndarray:
    distance = np.abs(increments.sum(axis=0))
    size, moving = np.abs(np.diff(increments, axis=0)), pace > STILL
    scale = 1.4826 * np.median(size[moving] / pace[moving, None], axis=0) / np.sqrt(2)
    ends = np.concatenate([pace[:1], pace, pace[-1:]]) ** 2
    spread = scale * np.sqrt((ends[:-1] + ends[1:]).sum() / 2)
    return np.where(distance > 0, distance / np.maximum(spread, 1e-12), 0.0)


@lru_cache
def _null(steps: int) -> np.ndarray:
    """The statistic of Gaussian walks, sorted."""
    draws = np.random.default_rng(0).standard_normal((steps, WALKS), dtype=np.float32)
    return np.sort(_statistic(draws, np.ones(steps - 1)))
