"""How sure a checkpoint's head list is: the same analysis on resampled pairs.

All of it comes from the scores per pair, no further pass is needed. A run draws its resamples
once, from a seed and the number of pairs, so resample r is the same pairs at every checkpoint
and counts over checkpoints can be given with intervals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tracking.circuits.circuit import heads_in
from tracking.model.graph import Graph
from tracking.stability.bootstrap import halves
from tracking.stability.sets import jaccard

Choose = Callable[[Tensor], Tensor]  # scores [..., source, target] -> circuits of that shape

SPLITS = 20  # of the pairs into halves
AGREED = 0.8  # Jaccard that `pairs_needed` asks for


@dataclass(frozen=True)
class Members:
    """Who stands in the circuits of resamples."""

    heads: Tensor  # BoolTensor [resample, head]
    edges: Tensor  # float32 [source, target], share of resamples


def members(graph: Graph, per_pair: Tensor, weights: Tensor, choose: Choose) -> Members:
    """The circuits that `choose` takes of the mean scores of every resample.

    `per_pair` [pair, source, target], `weights` [resample, pair].
    """
    flat = per_pair.flatten(1)
    heads, edges = [], torch.zeros(per_pair.shape[1:])
    for some in weights.split(16):  # the scores of all resamples at once would fill the memory
        means = (some @ flat).unflatten(1, per_pair.shape[1:])
        circuits = choose(means)
        heads.append(heads_in(graph, circuits))
        edges += circuits.sum(0)
    return Members(torch.cat(heads), edges / len(weights))


@dataclass(frozen=True)
class Agreement:
    """Two disjoint halves of the pairs against each other; [split] each."""

    jaccard: Tensor  # of the heads in their circuits
    rank_correlation: Tensor  # Spearman's, of the scores of all edges


def agreement(graph: Graph, per_pair: Tensor, choose: Choose, size: int | None = None) -> Agreement:
    """Of `SPLITS` random splits into halves, or into disjoint samples of `size`."""
    weights = halves(SPLITS, len(per_pair), size)
    heads = members(graph, per_pair, weights.flatten(0, 1), choose).heads
    first, second = heads.unflatten(0, (SPLITS, 2)).unbind(1)
    means = weights @ per_pair[:, graph.edge_mask]  # [split, half, edge]
    ranks = means.argsort(-1).argsort(-1).float()
    ranks = ranks - ranks.mean(-1, keepdim=True)
    products = (ranks[:, 0] * ranks[:, 1]).sum(-1)
    correlation = products / ranks.square().sum(-1).sqrt().prod(-1).clamp(min=1e-12)
    return Agreement(jaccard(first, second), correlation)


def pairs_needed(graph: Graph, per_pair: Tensor, choose: Choose, whole: Tensor) -> float | None:
    """An estimate of how many pairs a split-half Jaccard of `AGREED` takes.

    Disagreement 1 - J is measured with samples of an eighth and a quarter of the pairs and, in
    `whole` [split], with halves, and taken to fall as a power of their number. Where an eighth
    agrees so well already it is that many, or fewer. None where disagreement does not fall, or
    where there are too few pairs to tell.
    """
    total = len(per_pair)
    sizes = [size for size in (total // 8, total // 4) if size >= 2]
    if len(sizes) < 2:
        return None
    means = [float(agreement(graph, per_pair, choose, size).jaccard.mean()) for size in sizes]
    if means[0] >= AGREED:
        return float(sizes[0])  # or fewer
    means.append(float(whole.mean()))
    missing = np.log(np.clip(1 - np.array(means), 1e-3, None))
    power, constant = np.polyfit(np.log([*sizes, total // 2]), missing, 1)
    if power >= 0:
        return None
    return float(np.clip(np.exp((np.log(1 - AGREED) - constant) / power), 2, 1e6))
