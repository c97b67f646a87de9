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

