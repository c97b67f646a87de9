"""A selection takes the fewest edges of its size, whatever the sign and scale of scores."""

from fractions import Fraction

import networkx as nx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.builders.edges import graphs, names, numbers, on_a_path, seeds
from tracking.circuits.circuit import Circuit, prune
from tracking.circuits.top_edges import Selection, by_count, by_share, grown
from tracking.errors import BadInput
from tracking.model.graph import Graph


@given(graphs, seeds, st.integers(1, 6), st.integers(1, 20))
def test_a_share_takes_the_fewest_edges_that_hold_it_and_cuts_no_tie(
    graph: Graph, seed: int, largest: int, twentieths: int
) -> None:
    scores = numbers(graph, seed, largest)
    strength = {
        (graph.sources[row], graph.targets[column]): abs(int(scores[row, column]))
        for row, column in graph.edge_mask.nonzero().tolist()
    }
    wanted, so_far, smallest = Fraction(twentieths, 20) * sum(strength.values()), 0, 0
    for value in sorted(strength.values(), reverse=True):
        if so_far >= wanted:
            break
        so_far, smallest = so_far + value, value
    chosen = {edge for edge, value in strength.items() if value >= smallest and value > 0}
    result = by_share(graph, scores, twentieths / 20)
    assert names(graph, result) == on_a_path(chosen)


@given(graphs, seeds, st.integers(1, 30))
def test_a_count_takes_the_strongest_edges(graph: Graph, seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(graph.edge_mask.shape, generator=generator) * graph.edge_mask
    ranked = sorted(
        names(graph, graph.edge_mask), key=lambda e: -abs(scores[graph.index("->".join(e))])
    )
    assert names(graph, by_count(graph, scores, count)) == on_a_path(set(ranked[:count]))


@given(graphs, seeds)
def test_sign_and_scale_of_scores_do_not_matter(graph: Graph, seed: int) -> None:
    scores = numbers(graph, seed, 9)
    wanted = by_share(graph, scores, 0.7)
    assert torch.equal(by_share(graph, -scores, 0.7), wanted)
    assert torch.equal(by_share(graph, scores * 2.0**-30, 0.7), wanted)


@given(graphs)
def test_scores_that_are_all_zero_give_no_edge(graph: Graph) -> None:
    zeros = torch.zeros(graph.edge_mask.shape)
    assert not bool(by_share(graph, zeros, 1).any())
    assert not bool(by_count(graph, zeros, 5).any())


@given(graphs, seeds)
def test_the_whole_share_takes_all_edges_that_are_not_zero(graph: Graph, seed: int) -> None:
    scores = numbers(graph, seed, 2)
    assert torch.equal(by_share(graph, scores, 1), prune(graph, scores != 0))


@pytest.mark.parametrize("share", [0, -0.1, 1.01, float("nan")])
def test_a_share_beyond_its_range_is_refused(share: float) -> None:
    with pytest.raises(BadInput, match="share"):
        by_share(Graph(1, 1), torch.ones(3, 5), share)


def test_no_edges_are_refused_as_a_count() -> None:
    with pytest.raises(BadInput, match="edges is 0"):
        by_count(Graph(1, 1), torch.ones(3, 5), 0)


def distinct(graph: Graph, seed: int) -> Tensor:
    """Random scores without ties or zeros."""
    generator = torch.Generator().manual_seed(seed)
    order = 1 + torch.randperm(graph.edge_mask.numel(), generator=generator).float()
    signs = torch.randint(0, 2, order.shape, generator=generator) * 2 - 1
    return (order * signs).view(graph.edge_mask.shape) * graph.edge_mask


def grown_by_hand(graph: Graph, scores: Tensor, count: int) -> set[tuple[str, str]]:
    """One edge after the other, the whole graph looked through for each."""
    chosen: set[tuple[str, str]] = set()
    for _ in range(count):
        there = {"logits"} | {source for source, _ in chosen}
        left = names(graph, scores != 0) - chosen
        into = [edge for edge in left if edge[1].split(".")[0] in there]
        if not into:
            break
        chosen.add(max(into, key=lambda edge: abs(float(scores[graph.index("->".join(edge))]))))
    return chosen


@given(graphs, seeds, st.integers(1, 40))
def test_a_grown_circuit_is_what_is_taken_edge_by_edge(graph: Graph, seed: int, count: int) -> None:
    scores = distinct(graph, seed)
    chosen = grown_by_hand(graph, scores, count)
    web = nx.DiGraph([(source, target.split(".")[0]) for source, target in chosen])
    assert all(target.split(".")[0] in nx.ancestors(web, "logits") | {"logits"}
               for _, target in chosen)  # fmt: skip
    result = grown(graph, scores, count)
    assert names(graph, result) == on_a_path(chosen)
    assert torch.equal(prune(graph, result), result)


@given(graphs, seeds, st.integers(0, 5))
def test_a_circuit_grown_to_all_edges_is_that_of_the_top_ones(
    graph: Graph, seed: int, more: int
) -> None:
    scores, total = distinct(graph, seed), int(graph.edge_mask.sum())
    result = grown(graph, scores, total + more)
    assert torch.equal(result, by_count(graph, scores, total + more))
    assert torch.equal(result, graph.edge_mask)


@given(graphs, seeds, st.integers(1, 40))
def test_growing_takes_no_edge_without_a_score_and_ignores_sign_and_scale(
    graph: Graph, seed: int, count: int
) -> None:
    scores = numbers(graph, seed, 2)
    result = grown(graph, scores, count)
    assert not bool(result[scores == 0].any()) and int(result.sum()) <= count
    assert torch.equal(grown(graph, -scores * 2.0**-30, count), result)
    assert not bool(grown(graph, torch.zeros(graph.edge_mask.shape), count).any())
    with pytest.raises(BadInput, match="edges is 0"):
        grown(graph, scores, 0)


def test_growing_spends_nothing_on_an_edge_that_leads_nowhere() -> None:
    """The strongest edge of all ends in a head that no one reads."""
    graph, scores = Graph(1, 2), torch.zeros(4, 8)
    strengths = {"embed->L0H0.v": 9, "L0H0->logits": 0, "embed->L0H1.v": 2, "L0H1->logits": 3}
    for edge, strength in strengths.items():
        scores[graph.index(edge)] = strength
    assert Circuit(graph, grown(graph, scores, 2)).heads == ["L0H1"]
    assert Circuit(graph, by_count(graph, scores, 2)).heads == []


@pytest.mark.parametrize(
    ("text", "contrast", "amount"),
    [
        ("share=0.9", "share", 0.9),
        ("share=1", "share", 1),
        (" faithfulness = 0.8 ", "faithfulness", 0.8),
        ("faithfulness=1.0", "faithfulness", 1),
        ("edges=5000", "edges", 5000),
        ("edges=1", "edges", 1),
    ],
)
def test_a_selection_is_read_from_text(text: str, contrast: str, amount: float) -> None:
    assert Selection.parse(text) == Selection(contrast, amount)


@pytest.mark.parametrize(
    "text",
    [
        "", "share", "share=", "=0.9", "0.9", "size=3", "Share=0.9", "share=0", "share=-0.1",
        "share=1.01", "share=nan", "share=0.9,edges=3", "share==0.9", "share=90%",
        "faithfulness=0", "faithfulness=2", "faithfulness=inf", "edges=0", "edges=-3",
        "edges=0.5", "edges=2.5", "edges=inf", "edges=nan", "edges=many",
    ],
)  # fmt: skip
def test_a_selection_that_makes_no_sense_is_named_in_one_line(text: str) -> None:
    with pytest.raises(BadInput, match="select is") as raised:
        Selection.parse(text)
    assert repr(text) in str(raised.value) and "\n" not in str(raised.value)


@given(graphs, seeds, st.integers(1, 40), st.integers(1, 20))
def test_a_selection_takes_what_its_function_does(
    graph: Graph, seed: int, count: int, twentieths: int
) -> None:
    scores = numbers(graph, seed, 9, 2)
    share = twentieths / 20
    result = Selection.parse(f"share={share}").edges(graph, scores)
    assert torch.equal(result, by_share(graph, scores, share))
    result = Selection.parse(f"edges={count}").edges(graph, scores)
    assert torch.equal(result, by_count(graph, scores, count))
