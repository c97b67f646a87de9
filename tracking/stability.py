"""How sure a checkpoint's head list is: the same analysis on resampled probes.

All of it comes from the scores per probe, no further pass is needed. A run draws its resamples
once, from a seed and the number of probes, so resample r is the same probes at every checkpoint
and counts over checkpoints can be given with intervals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tracking.circuit import heads_in
from tracking.graph import Graph

Choose = Callable[[Tensor], Tensor]  # scores [..., source, target] -> circuits of that shape

SPLITS = 20  # of the probes into halves
FEW = 20  # resamples within a half
AGREED = 0.8  # Jaccard that `probes_needed` asks for


@dataclass(frozen=True)
class Thresholds:
    """Where active begins and inactive ends, and what makes a record weak."""

    member: float = 0.9  # share of resamples
    effect: float = 0.02  # probability of the right token
    gap: float = 0.05  # above this completeness gap a record is unconverged
    faithfulness: float = 0.7  # below it a record is weak
    jaccard: float = 0.5  # split-half agreement below which a record is weak
    probes: int = 16  # fewer than these cannot tell; the record is weak


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
class Members:
    """Who stands in the circuits of resamples."""

    heads: Tensor  # BoolTensor [resample, head]
    edges: Tensor  # float32 [source, target], share of resamples


def members(graph: Graph, per_probe: Tensor, weights: Tensor, choose: Choose) -> Members:
    """The circuits that `choose` takes of the mean scores of every resample.

    `per_probe` [probe, source, target], `weights` [resample, probe].
    """
    flat = per_probe.flatten(1)
    heads, edges = [], torch.zeros(per_probe.shape[1:])
    for some in weights.split(16):  # the scores of all resamples at once would fill the memory
        means = (some @ flat).unflatten(1, per_probe.shape[1:])
        circuits = choose(means)
        heads.append(heads_in(graph, circuits))
        edges += circuits.sum(0)
    return Members(torch.cat(heads), edges / len(weights))


def head_effects(graph: Graph, per_probe: Tensor) -> Tensor:
    """Float32 [probe, head]: signed sum of the scores of each head's outgoing edges.

    The gradient at what a head writes is the sum of those at all its readers, so this is the
    head's own node score: its attributed change of the metric when it alone is corrupted.
    """
    return per_probe[:, graph.head_sources].sum(-1)


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


@dataclass(frozen=True)
class Verdicts:
    """What a sample of probes says of heads; BoolTensors [..., head], uncertain where neither."""

    active: Tensor
    inactive: Tensor

    @property
    def uncertain(self) -> Tensor:
        return ~(self.active | self.inactive)


def verdicts(membership: Tensor, effect: Interval, thresholds: Thresholds) -> Verdicts:
    """Active where membership is high and the effect surely beyond its threshold, inactive where
    membership is low or the effect surely below."""
    least = thresholds.effect
    clear = (effect.low >= least) | (effect.high <= -least)
    below = (effect.low > -least) & (effect.high < least)
    active = (membership >= thresholds.member) & clear
    return Verdicts(active, ((membership <= 1 - thresholds.member) | below) & ~active)


@dataclass(frozen=True)
class Agreement:
    """Two disjoint halves of the probes against each other; [split] each."""

    jaccard: Tensor  # of the heads in their circuits
    rank_correlation: Tensor  # Spearman's, of the scores of all edges


def agreement(
    graph: Graph, per_probe: Tensor, choose: Choose, size: int | None = None
) -> Agreement:
    """Of `SPLITS` random splits into halves, or into disjoint samples of `size`."""
    weights = halves(SPLITS, len(per_probe), size)
    heads = members(graph, per_probe, weights.flatten(0, 1), choose).heads
    first, second = heads.unflatten(0, (SPLITS, 2)).unbind(1)
    means = weights @ per_probe[:, graph.edges]  # [split, half, edge]
    ranks = means.argsort(-1).argsort(-1).float()
    ranks = ranks - ranks.mean(-1, keepdim=True)
    products = (ranks[:, 0] * ranks[:, 1]).sum(-1)
    correlation = products / ranks.square().sum(-1).sqrt().prod(-1).clamp(min=1e-12)
    return Agreement(jaccard(first, second), correlation)


def jaccard(first: Tensor, second: Tensor) -> Tensor:
    """Float32 [...] of two sets of heads [..., head]; 1 where both are empty."""
    either = (first | second).sum(-1)
    return torch.where(either > 0, (first & second).sum(-1) / either.clamp(min=1), 1.0)


def probes_needed(graph: Graph, per_probe: Tensor, choose: Choose, whole: Tensor) -> float | None:
    """An estimate of how many probes a split-half Jaccard of `AGREED` takes.

    Disagreement 1 - J is measured with samples of an eighth and a quarter of the probes and, in
    `whole` [split], with halves, and taken to fall as a power of their number. Where an eighth
    agrees so well already it is that many, or fewer. None where disagreement does not fall, or
    where there are too few probes to tell.
    """
    total = len(per_probe)
    sizes = [size for size in (total // 8, total // 4) if size >= 2]
    if len(sizes) < 2:
        return None
    means = [float(agreement(graph, per_probe, choose, size).jaccard.mean()) for size in sizes]
    if means[0] >= AGREED:
        return float(sizes[0])  # or fewer
    means.append(float(whole.mean()))
    missing = np.log(np.clip(1 - np.array(means), 1e-3, None))
    power, constant = np.polyfit(np.log([*sizes, total // 2]), missing, 1)
    if power >= 0:
        return None
    return float(np.clip(np.exp((np.log(1 - AGREED) - constant) / power), 2, 1e6))


def null_turnover(
    graph: Graph,
    per_probe: Tensor,
    effects: Tensor,
    choose: Choose,
    thresholds: Thresholds,
    now: Verdicts,
) -> Tensor:
    """Float32 [split]: turnover between two disjoint halves of the probes on one checkpoint.

    `per_probe` [probe, source, target] as edges are ranked, `effects` [probe, head]. The same
    figure as between checkpoints, by the same rule: each half judges its heads by
    resamples of its own; a head that is uncertain in the first is what all probes say (`now`), one
    that is uncertain in the second stays what it was in the first.

    An estimate, and no bound: halves have half the probes, so more of their heads are uncertain,
    and what is uncertain is carried over and does not turn over. Where many heads lie near the
    thresholds, independent probes gave up to 2.5 times as much in a simulation; but a run's probes
    are the same at every checkpoint, which gives less.
    """
    weights = halves(SPLITS, len(per_probe))  # [split, half, probe]
    drawn = _within(weights, FEW)  # [split, half, resample, probe]
    inside = members(graph, per_probe, drawn.flatten(0, 2), choose).heads
    membership = inside.unflatten(0, drawn.shape[:3]).float().mean(2)  # [split, half, head]
    mean = weights @ effects  # [split, half, head]
    spread = (weights @ effects.square() - mean.square()).clamp(min=0)
    error = 1.96 * (spread / max(len(per_probe) // 2 - 1, 1)).sqrt()
    said = verdicts(membership, Interval(mean, mean - error, mean + error), thresholds)
    first = torch.where(said.uncertain[:, 0], now.active, said.active[:, 0])
    second = torch.where(said.uncertain[:, 1], first, said.active[:, 1])
    return 1 - jaccard(first, second)


def _within(weights: Tensor, count: int) -> Tensor:
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
