"""Resamples of prompt pairs, and the intervals that they give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor


def resamples(count: int, pairs: int, seed: int = 0) -> Tensor:
    """Float32 [resample, pair]: the weight of every pair in every bootstrap resample.

    Rows sum to 1.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(pairs, (count, pairs), generator=generator)
    ones = torch.ones(count, pairs)
    return torch.zeros(count, pairs).scatter_add_(1, drawn, ones) / pairs


def halves(splits: int, pairs: int, size: int | None = None, seed: int = 0) -> Tensor:
    """Float32 [split, half, pair]: weights of two disjoint samples of `size` pairs each, by
    default half of them all. Rows sum to 1."""
    size = pairs // 2 if size is None else size
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(splits, pairs, generator=generator).argsort(1)
    chosen = order[:, : 2 * size].view(splits, 2, size)
    return torch.zeros(splits, 2, pairs).scatter_(2, chosen, 1 / max(size, 1))


@dataclass(frozen=True)
class Interval:
    """Means with a 95 % interval."""

    mean: Tensor
    low: Tensor
    high: Tensor


def interval(per_pair: Tensor, weights: Tensor, level: float = 0.95) -> Interval:
    """The mean over pairs of [pair, head] and the `ends` of its resampled means."""
    return Interval(per_pair.mean(0), *ends(weights @ per_pair, torch.tensor(len(per_pair)), level))


def ratios(effect: Tensor, behaviour: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean effect over mean behaviour, [node], and in every resample, [resample, node].

    Of `effect` [pair, node] and `behaviour` [pair]: ratios of means, both resampled by the same
    `weights` [resample, pair]. Pairs at which a node's effect is NaN are left out of both its
    means. NaN where there is no behaviour (mean at most 0), or no pair is left.
    """
    measured = ~effect.isnan()
    effect = effect.masked_fill(~measured, 0)
    whole = behaviour[:, None] * measured  # [pair, node]
    return _ratio(effect.sum(0), whole.sum(0)), _ratio(weights @ effect, weights @ whole)


def ends(draws: Tensor, pairs: Tensor, level: float = 0.95) -> tuple[Tensor, Tensor]:
    """The interval's low and high end of figures [...] that so many `pairs` [...] say, from their
    draws [resample, ...].

    The percentiles, or where these are wider the ends of Student's interval with the bootstrap's
    standard error: resamples of few pairs never reach beyond them, and would be sure of two pairs
    that agree by chance. Of one pair nothing is sure. A resample without behaviour says nothing of
    a share: it counts as -inf for the low end and as +inf for the high one.
    """
    tail, unsure = (1 - level) / 2, draws.isnan()
    low = draws.masked_fill(unsure, -torch.inf).quantile(tail, dim=0)
    high = draws.masked_fill(unsure, torch.inf).quantile(1 - tail, dim=0)
    others = (pairs - 1).clamp(min=1)
    times = torch.from_numpy(np.asarray(stats.t.ppf(1 - tail, others))) * (1 + 1 / others).sqrt()
    mean, half = draws.mean(0), (times * draws.std(0, correction=0)).to(draws)
    low, high = low.fmin(mean - half), high.fmax(mean + half)
    # between an infinite and a finite resample the quantile is NaN
    unknown = low.isnan() | (pairs < 2), high.isnan() | (pairs < 2)
    return low.masked_fill(unknown[0], -torch.inf), high.masked_fill(unknown[1], torch.inf)


def share(effect: Tensor, behaviour: Tensor, weights: Tensor, level: float = 0.95) -> Interval:
    """The ratio of means [node] as `ratios` has it, with its interval; all NaN where no pair of a
    node is measured."""
    value, draws = ratios(effect, behaviour, weights)
    seen = (~effect.isnan()).sum(0)
    low, high = (end.masked_fill(seen == 0, torch.nan) for end in ends(draws, seen, level))
    return Interval(value, low, high)


def _ratio(effect: Tensor, behaviour: Tensor) -> Tensor:
    return torch.where(behaviour > 0, effect / behaviour, torch.nan)
