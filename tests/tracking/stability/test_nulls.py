"""Turnover between halves of the pairs is a null."""

import torch
from torch import Tensor

from tests.builders.edges import paths
from tracking.attribution.importance import head_effects
from tracking.model.graph import Graph
from tracking.stability.agreement import (
    SPLITS,
    Choose,
    members,
)
from tracking.stability.bootstrap import interval, resamples
from tracking.stability.nulls import null_turnover
from tracking.timeline.activity import Thresholds, verdicts


def turnover_of(graph: Graph, scores: Tensor, choose: Choose) -> Tensor:
    weights = resamples(200, len(scores))
    membership = members(graph, scores, weights, choose).heads.float().mean(0)
    effect = interval(head_effects(graph, scores), weights)
    now = verdicts(membership, effect, Thresholds())
    return null_turnover(graph, scores, head_effects(graph, scores), choose, Thresholds(), now)


def test_heads_that_only_noise_tells_apart_turn_over_and_sure_ones_do_not() -> None:
    """Six heads of one effect, near the threshold, of which a circuit has room for two."""
    alike = torch.full((6,), 0.05)
    noise = torch.stack(
        [turnover_of(*paths(alike, 0.1, pairs=64, count=8, seed=seed)) for seed in range(5)]
    )
    assert bool(((noise >= 0) & (noise <= 1)).all())
    assert float(noise.mean()) > 0.15
    apart = torch.tensor([0.5, 0.5, 0.05, 0.05, 0.05, 0.05])
    assert turnover_of(*paths(apart, 0.1, pairs=64, count=8)).tolist() == [0] * SPLITS
