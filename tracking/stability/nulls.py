"""How much of a turnover another sample of prompt pairs would make of one checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor

from tracking.model.graph import Graph
from tracking.stability.agreement import SPLITS, Choose, jaccard, members
from tracking.stability.bootstrap import Interval, halves, resamples_within
from tracking.timeline.activity import Thresholds, Verdicts, verdicts

FEW = 20  # resamples within a half


def null_turnover(
    graph: Graph,
    per_pair: Tensor,
    effects: Tensor,
    choose: Choose,
    thresholds: Thresholds,
    now: Verdicts,
) -> Tensor:
    """Float32 [split]: turnover between two disjoint halves of the pairs on one checkpoint.

    `per_pair` [pair, source, target] as edges are ranked, `effects` [pair, head]. The same
    figure as between checkpoints, by the same rule: each half judges its heads by
    resamples of its own; a head that is undecided in the first is what all pairs say (`now`), one
    that is undecided in the second stays what it was in the first.

    An estimate, and no bound: halves have half the pairs, so more of their heads are undecided,
    and what is undecided is carried over and does not turn over. Where many heads lie near the
    thresholds, independent pairs gave up to 2.5 times as much in a simulation; but a run's pairs
    are the same at every checkpoint, which gives less.
    """
    weights = halves(SPLITS, len(per_pair))  # [split, half, pair]
    drawn = resamples_within(weights, FEW)  # [split, half, resample, pair]
    inside = members(graph, per_pair, drawn.flatten(0, 2), choose).heads
    membership = inside.unflatten(0, drawn.shape[:3]).float().mean(2)  # [split, half, head]
    mean = weights @ effects  # [split, half, head]
    spread = (weights @ effects.square() - mean.square()).clamp(min=0)
    error = 1.96 * (spread / max(len(per_pair) // 2 - 1, 1)).sqrt()
    said = verdicts(membership, Interval(mean, mean - error, mean + error), thresholds)
    first = torch.where(said.undecided[:, 0], now.active, said.active[:, 0])
    second = torch.where(said.undecided[:, 1], first, said.active[:, 1])
    return 1 - jaccard(first, second)
