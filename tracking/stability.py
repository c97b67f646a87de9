"""How sure a checkpoint's head list is: the same analysis on resampled probes.

All of it comes from the scores per probe, no further pass is needed. A run draws its resamples
once, from a seed and the number of probes, so resample r is the same probes at every checkpoint
and counts over checkpoints can be given with intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tracking.circuit import by_share, heads_in
from tracking.graph import Graph


def resamples(count: int, probes: int, seed: int = 0) -> Tensor:
    """Float32 [resample, probe]: the weight of every probe in every bootstrap resample.

    Rows sum to 1.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(probes, (count, probes), generator=generator)
    ones = torch.ones(count, probes)
    return torch.zeros(count, probes).scatter_add_(1, drawn, ones) / probes


def circuits_heads(graph: Graph, per_probe: Tensor, weights: Tensor, share: float) -> Tensor:
    """BoolTensor [resample, head]: in which resample's circuit each head stands.

    `per_probe` [probe, source, target], `weights` [resample, probe].
    """
    flat = per_probe.flatten(1)
    inside = []
    for some in weights.split(16):  # the scores of all resamples at once would fill the memory
        means = (some @ flat).unflatten(1, per_probe.shape[1:])
        inside.append(heads_in(graph, by_share(graph, means, share)))
    return torch.cat(inside)


def head_effects(graph: Graph, per_probe: Tensor) -> Tensor:
    """Float32 [probe, head]: signed sum of the scores of each head's outgoing edges.

    The gradient at what a head writes is the sum of those at all its readers, so this is the
    head's own node score: its attributed change of the metric when it alone is corrupted.
    """
    return per_probe[:, graph.head_sources].sum(-1)


@dataclass(frozen=True)
class Interval:
    """Means with a percentile bootstrap interval; all [head]."""

    mean: Tensor
    low: Tensor
    high: Tensor


def interval(per_probe: Tensor, weights: Tensor, level: float = 0.95) -> Interval:
    """The mean over probes of [probe, head] and the interval of its resampled means."""
    means = weights @ per_probe  # [resample, head]
    tail = (1 - level) / 2
    low, high = means.quantile(torch.tensor([tail, 1 - tail]), dim=0)
    return Interval(per_probe.mean(0), low, high)
