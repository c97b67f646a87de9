"""What is drawn from resamples is what each would give alone, and halves agree as estimated."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from tests.builders.edges import graphs, paths, random_scores, seeds
from tracking.circuits.circuit import Circuit
from tracking.circuits.top_edges import by_count, by_share
from tracking.model.graph import Graph
from tracking.stability.agreement import (
    AGREED,
    SPLITS,
    agreement,
    members,
    pairs_needed,
)
from tracking.stability.bootstrap import halves, resamples
from tracking.stability.sets import jaccard


@settings(deadline=None, derandomize=True)
@given(graphs, st.integers(1, 8), st.integers(1, 40), st.floats(0.1, 1), seeds)
def test_heads_of_all_resamples_at_once_are_those_of_each_alone(
    graph: Graph, pairs: int, count: int, share: float, seed: int
) -> None:
    scores, weights = random_scores(graph, pairs, seed), resamples(count, pairs, seed)
    found = members(graph, scores, weights, partial(by_share, graph, share=share)).heads
    assert found.shape == (count, len(graph.head_names)) and found.dtype == torch.bool
    for weight, heads in zip(weights, found, strict=True):
        mean = (weight[:, None, None] * scores).sum(0)
        alone = Circuit(graph, by_share(graph, mean, share)).heads
        there = zip(graph.head_names, heads.tolist(), strict=True)
        assert [name for name, inside in there if inside] == alone


@settings(deadline=None, derandomize=True)
@given(graphs, st.integers(1, 8), st.integers(1, 40), st.integers(1, 60), seeds)
def test_an_edge_s_membership_is_the_share_of_resamples_that_have_it(
    graph: Graph, pairs: int, resampled: int, count: int, seed: int
) -> None:
    scores, weights = random_scores(graph, pairs, seed), resamples(resampled, pairs, seed)
    found = members(graph, scores, weights, partial(by_count, graph, count=count)).edges
    means = [(weight[:, None, None] * scores).sum(0) for weight in weights]
    circuits = torch.stack([by_count(graph, mean, count) for mean in means])
    assert torch.allclose(found, circuits.float().mean(0), atol=1e-6)
    assert not bool(found[~graph.edge_mask].any())


def test_a_head_that_one_pair_alone_needs_is_there_where_it_is_drawn() -> None:
    graph, scores = Graph(1, 2), torch.zeros(4, 4, 8)
    scores[:, 0, graph.index("embed->L0H0.v")[1]] = 1
    scores[:, graph.index("L0H0->logits")[0], -1] = 1
    scores[2][graph.index("embed->L0H1.v")] = 1
    scores[2][graph.index("L0H1->logits")] = 1
    weights = resamples(60, 4)
    found = members(graph, scores, weights, partial(by_share, graph, share=1)).heads
    assert bool(found[:, 0].all())
    assert torch.equal(found[:, 1], weights[:, 2] > 0)
    assert 0 < int(found[:, 1].sum()) < 60


@given(st.sets(st.integers(0, 6)), st.sets(st.integers(0, 6)))
def test_jaccard_is_that_of_sets(first: set[int], second: set[int]) -> None:
    masks = [torch.tensor([head in heads for head in range(7)]) for heads in (first, second)]
    either = first | second
    wanted = len(first & second) / len(either) if either else 1
    assert float(jaccard(*masks)) == pytest.approx(wanted)
    together = jaccard(torch.stack(masks), torch.stack(masks[::-1]))
    assert together.tolist() == pytest.approx([wanted] * 2)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(graphs, st.integers(2, 20), st.integers(1, 60), seeds)
def test_identical_pairs_agree_exactly(graph: Graph, pairs: int, count: int, seed: int) -> None:
    scores = random_scores(graph, 1, seed).expand(pairs, -1, -1)
    choose = partial(by_count, graph, count=count)
    found = agreement(graph, scores, choose)
    assert found.jaccard.tolist() == [1] * SPLITS
    assert found.rank_correlation.tolist() == pytest.approx([1] * SPLITS, abs=1e-5)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(graphs, st.integers(4, 20), st.integers(1, 40), seeds)
def test_agreement_is_what_every_split_gives_by_itself(
    graph: Graph, pairs: int, count: int, seed: int
) -> None:
    scores = random_scores(graph, pairs, seed)
    found = agreement(graph, scores, partial(by_count, graph, count=count))
    for place, split in enumerate(halves(SPLITS, pairs)):
        means = [(weight[:, None, None] * scores).sum(0) for weight in split]
        heads = [set(Circuit(graph, by_count(graph, mean, count)).heads) for mean in means]
        either = heads[0] | heads[1]
        wanted = len(heads[0] & heads[1]) / len(either) if either else 1
        assert float(found.jaccard[place]) == pytest.approx(wanted)
        wanted = spearmanr(means[0][graph.edge_mask], means[1][graph.edge_mask])[0]
        assert float(found.rank_correlation[place]) == pytest.approx(wanted, abs=1e-3)


UNLIKE = torch.linspace(0.05, 0.6, 12)


def middle_estimate(noise: float) -> float:
    """Of nine sets of pairs: single estimates scatter widely."""
    needed = []
    for seed in range(9):
        graph, scores, choose = paths(UNLIKE, noise, pairs=128, count=18, seed=seed)
        whole = agreement(graph, scores, choose).jaccard
        needed.append(pairs_needed(graph, scores, choose, whole) or 1e6)
    return sorted(needed)[4]


def test_more_noise_takes_more_pairs_and_more_pairs_agree_better() -> None:
    estimates = [middle_estimate(noise) for noise in (0.2, 0.5, 0.8, 1.5)]
    assert all(quiet < loud for quiet, loud in pairwise(estimates))
    for noise in (0.5, 0.8, 1.5):
        graph, scores, choose = paths(UNLIKE, noise, pairs=128, count=18)
        many, few = agreement(graph, scores, choose), agreement(graph, scores, choose, size=8)
        assert float(few.jaccard.mean()) < float(many.jaccard.mean())
        assert float(few.rank_correlation.mean()) < float(many.rank_correlation.mean())


@pytest.mark.parametrize("noise", [0.4, 0.6])
def test_halves_of_as_many_pairs_as_are_estimated_agree_about_as_asked(noise: float) -> None:
    agreed, pairs = [], 2 * round(middle_estimate(noise))
    for seed in range(9):
        graph, scores, choose = paths(UNLIKE, noise, pairs, count=18, seed=100 + seed)
        agreed.append(float(agreement(graph, scores, choose).jaccard.mean()))
    assert sorted(agreed)[4] == pytest.approx(AGREED, abs=0.1)


def test_too_few_pairs_give_no_estimate() -> None:
    graph, scores, choose = paths(UNLIKE, 0.5, pairs=15, count=18)
    assert pairs_needed(graph, scores, choose, agreement(graph, scores, choose).jaccard) is None
