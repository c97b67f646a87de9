"""How sure a checkpoint's circuit is: the same ranking of edges on resampled pairs.

All of it comes from the scores per pair, no further pass is needed. A run draws its resamples
once, from a seed and the number of pairs, so resample r is the same pairs at every checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tracking.circuits.entry import entry
from tracking.model.graph import Graph
from tracking.stability.bootstrap import halves
from tracking.stability.sets import jaccard, packed, unsure

SPLITS = 20  # of the pairs into halves
AGREED = 0.8  # Jaccard that `pairs_needed` asks for


@dataclass(frozen=True)
class Entries:
    """Who comes in when, by the mean scores of samples of the pairs."""

    nodes: Tensor  # int32 [sample, node]
    membership: Tensor  # float32 [source, target], share of samples with the edge at a size
    draws: Tensor  # uint8 [byte, edge]: the samples with an edge, of edges in some and not in all


def entries(graph: Graph, per_pair: Tensor, weights: Tensor, size: int) -> Entries:
    """Of every sample of `weights` [sample, pair], from scores [pair, source, target]; `size` is
    the number of top edges at which edges count as in."""
    flat = per_pair.flatten(1)
    nodes, bits, inside = [], [], torch.zeros(per_pair.shape[1:])
    for some in weights.split(16):  # the scores of all samples at once would fill the memory
        each = entry(graph, (some @ flat).unflatten(1, per_pair.shape[1:]))
        nodes.append(each.nodes)
        within = (each.edges <= size) & graph.edge_mask
        inside += within.sum(0)
        bits.append(packed(within))
    membership = inside / len(weights)
    return Entries(torch.cat(nodes), membership, torch.cat(bits)[:, unsure(membership)])


@dataclass(frozen=True)
class Agreement:
    """Two disjoint halves of the pairs against each other."""

    jaccard: Tensor  # float32 [split], of the heads in their circuits
    rank_correlation: Tensor  # float32 [split], Spearman's, of the scores of all edges


def agreement(graph: Graph, per_pair: Tensor, edges: int, pairs: int | None = None) -> Agreement:
    """Of `SPLITS` random splits into halves, or into disjoint samples of so many `pairs`; circuits
    are those of the top `edges`."""
    weights = halves(SPLITS, len(per_pair), pairs)
    nodes = entries(graph, per_pair, weights.flatten(0, 1), edges).nodes.unflatten(0, (SPLITS, 2))
    first, second = (nodes[..., graph.node_heads] <= edges).unbind(1)
    means = weights @ per_pair[:, graph.edge_mask]  # [split, half, edge]
    ranks = means.argsort(-1).argsort(-1).float()
    ranks = ranks - ranks.mean(-1, keepdim=True)
    products = (ranks[:, 0] * ranks[:, 1]).sum(-1)
    correlation = products / ranks.square().sum(-1).sqrt().prod(-1).clamp(min=1e-12)
    return Agreement(jaccard(first, second), correlation)


def pairs_needed(graph: Graph, per_pair: Tensor, edges: int, whole: Tensor) -> float | None:
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
    means = [float(agreement(graph, per_pair, edges, size).jaccard.mean()) for size in sizes]
    if means[0] >= AGREED:
        return float(sizes[0])  # or fewer
    means.append(float(whole.mean()))
    missing = np.log(np.clip(1 - np.array(means), 1e-3, None))
    power, constant = np.polyfit(np.log([*sizes, total // 2]), missing, 1)
    if power >= 0:
        return None
    return float(np.clip(np.exp((np.log(1 - AGREED) - constant) / power), 2, 1e6))
