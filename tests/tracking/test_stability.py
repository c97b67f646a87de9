"""Resamples are weights of probes, and what is drawn from them is what each would give alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tracking.circuit import Circuit, by_share
from tracking.graph import Graph
from tracking.stability import circuits_heads, head_effects, interval, resamples

graphs = st.builds(Graph, layers=st.integers(1, 3), heads=st.integers(1, 3))
seeds = st.integers(0, 2**31)


def random_scores(graph: Graph, probes: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(probes, *graph.edges.shape, generator=generator) * graph.edges


@given(st.integers(1, 50), st.integers(1, 40), seeds)
def test_a_resample_draws_as_many_probes_as_there_are(count: int, probes: int, seed: int) -> None:
    state = torch.get_rng_state()
    weights = resamples(count, probes, seed)
    assert torch.equal(torch.get_rng_state(), state)
    assert weights.shape == (count, probes)
    assert torch.allclose(weights.sum(1), torch.ones(count), atol=1e-5)
    times = weights * probes
    assert torch.allclose(times, times.round(), atol=1e-4) and bool((times >= 0).all())
    assert torch.equal(weights, resamples(count, probes, seed))


def test_resamples_differ_by_seed_and_among_themselves() -> None:
    assert not torch.equal(resamples(5, 20, 0), resamples(5, 20, 1))
    assert len(resamples(50, 20).unique(dim=0)) == 50
    assert resamples(4000, 10).mean(0).tolist() == pytest.approx([0.1] * 10, abs=0.01)


def test_a_larger_draw_begins_with_the_smaller_one() -> None:
    """So resample r is the same probes whatever their number."""
    assert torch.equal(resamples(200, 30)[:50], resamples(50, 30))


@settings(deadline=None, derandomize=True)
@given(graphs, st.integers(1, 8), st.integers(1, 40), st.floats(0.1, 1), seeds)
def test_heads_of_all_resamples_at_once_are_those_of_each_alone(
    graph: Graph, probes: int, count: int, share: float, seed: int
) -> None:
    scores, weights = random_scores(graph, probes, seed), resamples(count, probes, seed)
    found = circuits_heads(graph, scores, weights, share)
    assert found.shape == (count, len(graph.head_names)) and found.dtype == torch.bool
    for weight, heads in zip(weights, found, strict=True):
        mean = (weight[:, None, None] * scores).sum(0)
        alone = Circuit(graph, by_share(graph, mean, share)).heads
        there = zip(graph.head_names, heads.tolist(), strict=True)
        assert [name for name, inside in there if inside] == alone


def test_a_head_that_one_probe_alone_needs_is_there_where_the_probe_is_drawn() -> None:
    graph, scores = Graph(1, 2), torch.zeros(4, 4, 8)
    scores[:, 0, graph.index("embed->L0H0.v")[1]] = 1
    scores[:, graph.index("L0H0->logits")[0], -1] = 1
    scores[2][graph.index("embed->L0H1.v")] = 1
    scores[2][graph.index("L0H1->logits")] = 1
    weights = resamples(60, 4)
    found = circuits_heads(graph, scores, weights, 1)
    assert bool(found[:, 0].all())
    assert torch.equal(found[:, 1], weights[:, 2] > 0)
    assert 0 < int(found[:, 1].sum()) < 60


@given(graphs, st.integers(1, 4), seeds)
def test_a_head_s_effect_is_the_sum_of_its_outgoing_edges(
    graph: Graph, probes: int, seed: int
) -> None:
    scores = random_scores(graph, probes, seed)
    effects = head_effects(graph, scores)
    assert effects.shape == (probes, len(graph.head_names))
    for probe in range(probes):
        for head, name in enumerate(graph.head_names):
            row = graph.sources.index(name)
            out = sum(
                float(s)
                for s, there in zip(scores[probe, row], graph.edges[row], strict=True)
                if there
            )
            assert float(effects[probe, head]) == pytest.approx(out, abs=1e-4)


@given(st.floats(-1, 1, width=32), st.integers(1, 30))
def test_the_interval_of_equal_values_is_that_value(value: float, probes: int) -> None:
    found = interval(torch.full((probes, 2), value), resamples(50, probes))
    for bound in (found.mean, found.low, found.high):
        assert bound.tolist() == pytest.approx([value] * 2, abs=1e-6)


@settings(deadline=None, derandomize=True)
@given(st.integers(2, 40), seeds)
def test_a_wider_level_has_a_wider_interval_around_the_mean(probes: int, seed: int) -> None:
    values = torch.randn(probes, 3, generator=torch.Generator().manual_seed(seed))
    weights = resamples(400, probes, seed)
    wide, narrow = interval(values, weights, 0.99), interval(values, weights, 0.5)
    assert torch.equal(wide.mean, values.mean(0))
    assert bool((wide.low <= narrow.low).all() and (narrow.high <= wide.high).all())
    assert bool((wide.low <= wide.mean).all() and (wide.mean <= wide.high).all())
    means = (weights[:, :, None] * values).sum(1).sort(0).values
    assert torch.allclose(wide.low, means[1] + 0.995 * (means[2] - means[1]), atol=1e-5)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    found = interval(torch.randn(60, 2000, generator=generator), resamples(500, 60))
    covered = ((found.low <= 0) & (found.high >= 0)).float().mean()
    assert 0.91 < float(covered) < 0.97
