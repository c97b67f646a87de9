"""What halves of the prompt pairs say of heads: from it comes the turnover that is none."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tracking.model.graph import Graph
from tracking.stability.agreement import SPLITS, Choose, members
from tracking.stability.bootstrap import halves, resamples_within

FEW = 20  # resamples within a half


@dataclass(frozen=True)
class Halves:
    """Two disjoint halves of the pairs, split again and again; float32 [split, half, head] each."""

    membership: Tensor  # share of resamples within the half
    effect: Tensor  # mean over the half's pairs
    error: Tensor  # half of the 95 % interval of that mean, by its standard error


def in_halves(graph: Graph, per_pair: Tensor, effects: Tensor, choose: Choose) -> Halves:
    """Of `SPLITS` random splits; `per_pair` [pair, source, target] as edges are ranked, `effects`
    [pair, head]."""
    weights = halves(SPLITS, len(per_pair))  # [split, half, pair]
    drawn = resamples_within(weights, FEW)  # [split, half, resample, pair]
    inside = members(graph, per_pair, drawn.flatten(0, 2), choose).heads
    mean = weights @ effects  # [split, half, head]
    spread = (weights @ effects.square() - mean.square()).clamp(min=0)
    return Halves(
        membership=inside.unflatten(0, drawn.shape[:3]).float().mean(2),
        effect=mean,
        error=1.96 * (spread / max(len(per_pair) // 2 - 1, 1)).sqrt(),
    )
