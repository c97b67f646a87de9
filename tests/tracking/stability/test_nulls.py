"""What halves of the pairs say of heads, and the turnover that it makes of one checkpoint."""

import torch
from torch import Tensor

from tests.builders.analyses import make_analysis
from tests.builders.edges import paths
from tracking.attribution.importance import head_effects
from tracking.model.graph import Graph
from tracking.stability.agreement import SPLITS, Choose, members
from tracking.stability.bootstrap import resamples
from tracking.stability.nulls import in_halves
from tracking.timeline.activity import Thresholds, null_turnover


def turnover_of(graph: Graph, scores: Tensor, choose: Choose) -> Tensor:
    effect = head_effects(graph, scores)
    halves = in_halves(graph, scores, effect, choose)
    analysis = make_analysis(
        graph,
        in_circuit=members(graph, scores, resamples(200, len(scores)), choose).heads,
        effect=effect,
        half_membership=halves.membership,
        half_effect=halves.effect,
        half_error=halves.error,
    )
    return null_turnover(analysis, Thresholds())


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


def test_identical_pairs_make_no_turnover() -> None:
    graph, scores, choose = paths(torch.full((6,), 0.05), 0.1, pairs=1, count=8)
    same = scores.expand(20, -1, -1)
    assert turnover_of(graph, same, choose).tolist() == [0] * SPLITS
