"""What flows through a head is the sum over the edges that bear its name, and no others."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.builders.edges import random_scores
from tracking.attribution.importance import importance, shift
from tracking.model.graph import Graph

graphs = st.builds(Graph, n_layers=st.integers(1, 3), n_heads=st.integers(1, 4))
seeds = st.integers(0, 2**31)
shares = arrays(float, 5, elements=st.floats(0, 1))


@given(graphs, seeds)
def test_flows_are_sums_over_the_edges_of_a_head_s_name(graph: Graph, seed: int) -> None:
    scores, inflow, outflow = random_scores(graph, 1, seed)[0], {}, {}
    for row, column in graph.edge_mask.nonzero().tolist():
        source, target = graph.sources[row], graph.targets[column].split(".")[0]
        size = abs(float(scores[row, column]))
        outflow[source] = outflow.get(source, 0) + size
        inflow[target] = inflow.get(target, 0) + size
    result, heads = importance(graph, scores), graph.head_names
    assert result["head"].tolist() == list(heads)
    assert result["inflow"].tolist() == pytest.approx([inflow[head] for head in heads], rel=1e-4)
    assert result["outflow"].tolist() == pytest.approx([outflow[head] for head in heads], rel=1e-4)
    total = sum(outflow[head] for head in heads)
    wanted = [outflow[head] / total for head in heads]
    assert result["importance"].tolist() == pytest.approx(wanted, rel=1e-4)
    total += sum(inflow[head] for head in heads)
    wanted = [(inflow[head] + outflow[head]) / total for head in heads]
    assert result["importance_symmetric"].tolist() == pytest.approx(wanted, rel=1e-4)


@given(graphs, seeds)
def test_shares_sum_to_one_and_know_neither_sign_nor_scale(graph: Graph, seed: int) -> None:
    scores = random_scores(graph, 1, seed)[0]
    result, other = importance(graph, scores), importance(graph, -8 * scores)
    for share in ("importance", "importance_symmetric"):
        assert result[share].sum() == pytest.approx(1, abs=1e-5)
        assert result[share].to_numpy() == pytest.approx(other[share].to_numpy(), rel=1e-5)


@given(graphs)
def test_without_any_score_no_head_has_a_share(graph: Graph) -> None:
    result = importance(graph, torch.zeros(graph.edge_mask.shape))
    assert not result.drop(columns="head").to_numpy(float).any()


def test_what_flows_between_two_heads_counts_for_both() -> None:
    graph = Graph(2, 2)
    scores = torch.zeros(graph.edge_mask.shape)
    scores[graph.index("embed->L0H1.k")] = -5
    scores[graph.index("L0H1->L1H0.q")] = 3
    scores[graph.index("L1H0->logits")] = -1
    scores[graph.index("M0->M1")] = 100  # not through a head
    result = importance(graph, scores).set_index("head")
    assert result["inflow"].to_dict() == {"L0H0": 0, "L0H1": 5, "L1H0": 3, "L1H1": 0}
    assert result["outflow"].to_dict() == {"L0H0": 0, "L0H1": 3, "L1H0": 1, "L1H1": 0}
    assert result["importance"].tolist() == [0, 0.75, 0.25, 0]
    assert result["importance_symmetric"].tolist() == pytest.approx([0, 8 / 12, 4 / 12, 0])


@given(shares, shares)
def test_a_shift_is_that_of_the_paper_and_turns_round_with_time(
    before: np.ndarray, after: np.ndarray
) -> None:
    result = shift(before, after)
    wanted = [(b - a) / (b + a + 1e-6) for a, b in zip(before, after, strict=True)]
    assert result.tolist() == pytest.approx(wanted)
    assert np.array_equal(result, -shift(after, before))
    assert (np.abs(result) <= 1).all()
    assert not shift(before, before).any()


def test_a_head_that_comes_from_nothing_shifts_by_one() -> None:
    assert shift(np.array([0.0, 0.2]), np.array([0.2, 0.0])).tolist() == pytest.approx(
        [1, -1], abs=1e-5
    )
