"""What is drawn from resamples is what each would give alone, and halves agree as estimated."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from tests.builders.edges import graphs, paths, random_scores, seeds
from tracking.circuits.circuit import Circuit
from tracking.circuits.top_edges import by_count
from tracking.model.graph import Graph
from tracking.stability.agreement import AGREED, SPLITS, agreement, entries, pairs_needed
from tracking.stability.bootstrap import halves, resamples
from tracking.stability.sets import jaccard, unpacked

sizes = st.integers(1, 60)


@settings(derandomize=True, max_examples=40)
@given(graphs, st.integers(1, 8), st.integers(1, 40), sizes, seeds)
def test_nodes_of_all_resamples_at_once_are_those_of_each_alone(
    graph: Graph, pairs: int, count: int, size: int, seed: int
) -> None:
    scores, weights = random_scores(graph, pairs, seed), resamples(count, pairs, seed)
    drawn = entries(graph, scores, weights, size)
    assert drawn.nodes.shape == (count, len(graph.nodes))
    for weight, inside in zip(weights, drawn.nodes <= size, strict=True):
        mean = (weight[:, None, None] * scores).sum(0)
        alone = Circuit(graph, by_count(graph, mean, size)).heads
        heads = zip(graph.head_names, inside[graph.node_heads].tolist(), strict=True)
        assert [name for name, there in heads if there] == alone


@settings(derandomize=True, max_examples=40)
@given(graphs, st.integers(1, 8), st.integers(2, 40), sizes, seeds)
def test_edges_of_every_resample_are_kept_by_membership_and_bits(
    graph: Graph, pairs: int, count: int, size: int, seed: int
) -> None:
    scores, weights = random_scores(graph, pairs, seed), resamples(count, pairs, seed)
    drawn = entries(graph, scores, weights, size)
    means = [(weight[:, None, None] * scores).sum(0) for weight in weights]
    circuits = torch.stack([by_count(graph, mean, size) for mean in means])
    assert torch.allclose(drawn.membership, circuits.float().mean(0), atol=1e-6)
    assert not bool(drawn.membership[~graph.edge_mask].any())
    for among in (drawn.membership > 0, graph.edge_mask):
        inside = unpacked(drawn.membership, drawn.draws, count, among)
        assert torch.equal(inside, circuits[:, among])


def test_a_head_that_one_pair_alone_needs_is_in_where_it_is_drawn() -> None:
    graph, scores = Graph(1, 2), torch.zeros(4, 4, 8)
    scores[:, 0, graph.index("embed->L0H0.v")[1]] = 1
    scores[:, graph.index("L0H0->logits")[0], -1] = 1
    scores[2][graph.index("embed->L0H1.v")] = 1
    scores[2][graph.index("L0H1->logits")] = 1
    weights = resamples(60, 4)
    inside = entries(graph, scores, weights, 4).nodes[:, graph.node_heads] <= 4
    assert bool(inside[:, 0].all())
    assert torch.equal(inside[:, 1], weights[:, 2] > 0)
    assert 0 < int(inside[:, 1].sum()) < 60


@given(st.sets(st.integers(0, 6)), st.sets(st.integers(0, 6)))
def test_jaccard_is_that_of_sets(first: set[int], second: set[int]) -> None:
    masks = [torch.tensor([head in heads for head in range(7)]) for heads in (first, second)]
    either = first | second
    wanted = len(first & second) / len(either) if either else 1
    assert float(jaccard(*masks)) == pytest.approx(wanted)
    together = jaccard(torch.stack(masks), torch.stack(masks[::-1]))
    assert together.tolist() == pytest.approx([wanted] * 2)


@settings(derandomize=True, max_examples=30)
@given(graphs, st.integers(2, 20), sizes, seeds)
def test_identical_pairs_agree_exactly(graph: Graph, pairs: int, size: int, seed: int) -> None:
    scores = random_scores(graph, 1, seed).expand(pairs, -1, -1)
    agreed = agreement(graph, scores, size)
    assert agreed.jaccard.tolist() == [1] * SPLITS
    assert agreed.rank_correlation.tolist() == pytest.approx([1] * SPLITS, abs=1e-5)


@settings(derandomize=True, max_examples=30)
@given(graphs, st.integers(4, 20), sizes, seeds)
def test_agreement_is_what_every_split_gives_by_itself(
    graph: Graph, pairs: int, size: int, seed: int
) -> None:
    scores = random_scores(graph, pairs, seed)
    agreed = agreement(graph, scores, size)
    for place, split in enumerate(halves(SPLITS, pairs)):
        means = [(weight[:, None, None] * scores).sum(0) for weight in split]
        circuits = [by_count(graph, mean, size) for mean in means]
        heads = [set(Circuit(graph, one).heads) for one in circuits]
        either = heads[0] | heads[1]
        wanted = len(heads[0] & heads[1]) / len(either) if either else 1
        assert float(agreed.jaccard[place]) == pytest.approx(wanted)
        wanted = spearmanr(means[0][graph.edge_mask], means[1][graph.edge_mask])[0]
        assert float(agreed.rank_correlation[place]) == pytest.approx(wanted, abs=1e-3)


UNLIKE, EDGES = torch.linspace(0.05, 0.6, 12), 18


def middle_estimate(noise: float) -> float:
    """Of nine sets of pairs: single estimates scatter widely."""
    needed = []
    for seed in range(9):
        graph, scores = paths(UNLIKE, noise, pairs=128, seed=seed)
        whole = agreement(graph, scores, EDGES).jaccard
        needed.append(pairs_needed(graph, scores, EDGES, whole) or 1e6)
    return sorted(needed)[4]


def test_more_noise_takes_more_pairs_and_more_pairs_agree_better() -> None:
    estimates = [middle_estimate(noise) for noise in (0.2, 0.5, 0.8, 1.5)]
    assert all(quiet < loud for quiet, loud in pairwise(estimates))
    for noise in (0.5, 0.8, 1.5):
        graph, scores = paths(UNLIKE, noise, pairs=128)
        many, few = agreement(graph, scores, EDGES), agreement(graph, scores, EDGES, pairs=8)
        assert float(few.jaccard.mean()) < float(many.jaccard.mean())
        assert float(few.rank_correlation.mean()) < float(many.rank_correlation.mean())


@pytest.mark.parametrize("noise", [0.4, 0.6])
def test_halves_of_as_many_pairs_as_are_estimated_agree_about_as_asked(noise: float) -> None:
    agreed, pairs = [], 2 * round(middle_estimate(noise))
    for seed in range(9):
        graph, scores = paths(UNLIKE, noise, pairs, seed=100 + seed)
        agreed.append(float(agreement(graph, scores, EDGES).jaccard.mean()))
    assert sorted(agreed)[4] == pytest.approx(AGREED, abs=0.1)


def test_too_few_pairs_give_no_estimate() -> None:
    graph, scores = paths(UNLIKE, 0.5, pairs=15)
    assert pairs_needed(graph, scores, EDGES, agreement(graph, scores, EDGES).jaccard) is None
