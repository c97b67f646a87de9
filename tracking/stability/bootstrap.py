"""Resamples of prompt pairs, and the intervals that they give."""

from __future__ import annotations

from dataclasses import dataclass

import torch
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
    """The mean over pairs of [pair, head] and the percentiles of its resampled means."""
    means = weights @ per_pair  # [resample, head]
    tail = (1 - level) / 2
    low, high = means.quantile(torch.tensor([tail, 1 - tail]), dim=0)
    return Interval(per_pair.mean(0), low, high)


def share(effect: Tensor, behaviour: Tensor, weights: Tensor, level: float = 0.95) -> Interval:
    """Mean effect over mean behaviour, [node]: of `effect` [pair, node] and `behaviour` [pair].

    A ratio of means, whose interval resamples both by the same `weights` [resample, pair]. A
    resample without behaviour (mean at most 0) says nothing of a share: it counts as -inf for the
    low end and as +inf for the high one. Where all pairs together have none, the mean is NaN. Pairs
    at which a node's effect is NaN are left out of both its means; all NaN where no pair is left.
    """
    measured = ~effect.isnan()
    effect = effect.masked_fill(~measured, 0)
    whole = behaviour[:, None] * measured  # [pair, node]
    ratios = _ratio(weights @ effect, weights @ whole)  # [resample, node], NaN without behaviour
    tail, unsure = (1 - level) / 2, ratios.isnan()
    low = ratios.masked_fill(unsure, -torch.inf).quantile(tail, dim=0)
    high = ratios.masked_fill(unsure, torch.inf).quantile(1 - tail, dim=0)
    # between an infinite and a finite resample the quantile is NaN
    low, high = low.masked_fill(low.isnan(), -torch.inf), high.masked_fill(high.isnan(), torch.inf)
    low, high = (end.masked_fill(~measured.any(0), torch.nan) for end in (low, high))
    return Interval(_ratio(effect.sum(0), whole.sum(0)), low, high)


def _ratio(effect: Tensor, behaviour: Tensor) -> Tensor:
    """NaN where there is no behaviour, at most 0."""
    return torch.where(behaviour > 0, effect / behaviour, torch.nan)


def resamples_within(weights: Tensor, count: int) -> Tensor:
    """Float32 [..., resample, pair]: `count` bootstrap resamples within every sample of pairs."""
    generator = torch.Generator().manual_seed(0)
    size = int((weights.flatten(0, -2)[0] > 0).sum())
    flat = weights.flatten(0, -2)
    drawn = torch.multinomial(
        flat.repeat_interleave(count, 0), size, replacement=True, generator=generator
    )
    out = torch.zeros(len(drawn), weights.shape[-1])
    out.scatter_add_(1, drawn, torch.full(drawn.shape, 1 / size))
    return out.unflatten(0, (*weights.shape[:-1], count))
