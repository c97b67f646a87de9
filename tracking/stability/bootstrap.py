"""Resamples of prompt pairs, and the intervals that they give."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def resamples(count: int, probes: int, seed: int = 0) -> Tensor:
    """Float32 [resample, probe]: the weight of every probe in every bootstrap resample.

    Rows sum to 1.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(probes, (count, probes), generator=generator)
    ones = torch.ones(count, probes)
    return torch.zeros(count, probes).scatter_add_(1, drawn, ones) / probes


def halves(splits: int, probes: int, size: int | None = None, seed: int = 0) -> Tensor:
    """Float32 [split, half, probe]: weights of two disjoint samples of `size` probes each, by
    default half of them all. Rows sum to 1."""
    size = probes // 2 if size is None else size
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(splits, probes, generator=generator).argsort(1)
    chosen = order[:, : 2 * size].view(splits, 2, size)
    return torch.zeros(splits, 2, probes).scatter_(2, chosen, 1 / max(size, 1))


@dataclass(frozen=True)
class Interval:
    """Means with a 95 % interval."""

    mean: Tensor
    low: Tensor
    high: Tensor


def interval(per_probe: Tensor, weights: Tensor, level: float = 0.95) -> Interval:
    """The mean over probes of [probe, head] and the percentiles of its resampled means."""
    means = weights @ per_probe  # [resample, head]
    tail = (1 - level) / 2
    low, high = means.quantile(torch.tensor([tail, 1 - tail]), dim=0)
    return Interval(per_probe.mean(0), low, high)


def resamples_within(weights: Tensor, count: int) -> Tensor:
    """Float32 [..., resample, probe]: `count` bootstrap resamples within every sample of probes."""
    generator = torch.Generator().manual_seed(0)
    size = int((weights.flatten(0, -2)[0] > 0).sum())
    flat = weights.flatten(0, -2)
    drawn = torch.multinomial(
        flat.repeat_interleave(count, 0), size, replacement=True, generator=generator
    )
    out = torch.zeros(len(drawn), weights.shape[-1])
    out.scatter_add_(1, drawn, torch.full(drawn.shape, 1 / size))
    return out.unflatten(0, (*weights.shape[:-1], count))
