"""A node or an edge is in the circuits of as many top edges as its entry says, and of more."""

from itertools import pairwise

import networkx as nx
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.builders.edges import graphs, names, numbers, on_a_path, seeds
from tracking.circuits.circuit import heads_in
from tracking.circuits.entry import Entry, entry
from tracking.circuits.top_edges import by_count, ranks
from tracking.model.graph import Graph


def beyond(graph: Graph) -> int:
    return int(graph.edge_mask.sum()) + 1


def stronger_first(graph: Graph, scores: Tensor) -> list[tuple[str, str]]:
    """Edges with a score, strongest first, those that tie by row and column."""
    edges = graph.edge_mask.nonzero().tolist()
    edges = [(u, v) for u, v in edges if scores[u, v] != 0]
    edges.sort(key=lambda edge: (-abs(float(scores[edge])), edge))
    return [(graph.sources[row], graph.targets[column]) for row, column in edges]


@given(graphs, seeds, st.integers(1, 20))
def test_at_every_size_the_edges_and_heads_are_the_circuit_s(
    graph: Graph, seed: int, largest: int
) -> None:
    """Scores with many ties and zeros, and with none."""
    scores = numbers(graph, seed, largest)
    entries = entry(graph, scores)
    for count in range(1, beyond(graph)):
        circuit = by_count(graph, scores, count)
        assert torch.equal(entries.edges <= count, circuit)
        heads = entries.nodes[graph.node_heads] <= count
        assert torch.equal(heads, heads_in(graph, circuit))
        assert torch.equal(entries.nodes <= count, circuit.any(1)[1:])


@given(graphs, seeds, st.integers(1, 20))
def test_at_every_size_the_edges_are_those_on_a_path_by_networkx(
    graph: Graph, seed: int, largest: int
) -> None:
    scores = numbers(graph, seed, largest)
    entries, order = entry(graph, scores), stronger_first(graph, scores)
    for count in range(1, beyond(graph), 3):
        assert names(graph, entries.edges <= count) == on_a_path(set(order[:count]))


@given(graphs, seeds)
def test_a_node_s_entry_is_the_best_of_all_paths_through_it(graph: Graph, seed: int) -> None:
    scores = numbers(graph, seed, 9)
    entries, ranked = entry(graph, scores), ranks(graph, scores)
    web = nx.DiGraph()
    for source, target in stronger_first(graph, scores):
        rank = int(ranked[graph.index(f"{source}->{target}")])
        node = target.split(".")[0]
        if not web.has_edge(source, node) or web[source][node]["rank"] > rank:
            web.add_edge(source, node, rank=rank)
    best = dict.fromkeys(graph.nodes, beyond(graph))
    if {"embed", "logits"} <= set(web):
        for path in nx.all_simple_paths(web, "embed", "logits"):
            last = max(web[u][v]["rank"] for u, v in pairwise(path))
            for node in path[1:-1]:
                best[node] = min(best[node], last)
    assert entries.nodes.tolist() == [best[name] for name in graph.nodes]


@given(graphs, seeds)
def test_sign_and_scale_do_not_matter_and_resamples_are_as_one_by_one(
    graph: Graph, seed: int
) -> None:
    scores = numbers(graph, seed, 5, 2, 3)
    entries = entry(graph, scores)
    for other in (entry(graph, -scores), entry(graph, scores * 2.0**-30)):
        assert torch.equal(other.nodes, entries.nodes) and torch.equal(other.edges, entries.edges)
    for place in ((0, 0), (1, 2)):
        alone = entry(graph, scores[place])
        assert torch.equal(alone.nodes, entries.nodes[place])
        assert torch.equal(alone.edges, entries.edges[place])
    assert entries.nodes.shape == (2, 3, len(graph.nodes)) and entries.nodes.dtype == torch.int32


@given(graphs)
def test_what_has_no_score_or_is_no_edge_never_enters(graph: Graph) -> None:
    nothing = entry(graph, torch.zeros(graph.edge_mask.shape))
    assert bool((nothing.nodes == beyond(graph)).all())
    assert bool((nothing.edges == beyond(graph)).all())
    everything = entry(graph, torch.ones(graph.edge_mask.shape))
    assert bool((everything.edges[~graph.edge_mask] == beyond(graph)).all())
    assert bool((everything.edges[graph.edge_mask] < beyond(graph)).all())


def test_an_edge_enters_with_the_weakest_of_its_path() -> None:
    graph, scores = Graph(1, 2), torch.zeros(4, 8)
    strengths = {"embed->L0H0.v": 9, "L0H0->logits": -4, "embed->L0H1.v": 5, "embed->L0H0.k": 8}
    for edge, strength in strengths.items():
        scores[graph.index(edge)] = strength
    entries: Entry = entry(graph, scores)
    assert entries.nodes.tolist() == [4, 14, 14]  # L0H0, L0H1, M0
    wanted = {"embed->L0H0.v": 4, "L0H0->logits": 4, "embed->L0H1.v": 14, "embed->L0H0.k": 4}
    assert {edge: int(entries.edges[graph.index(edge)]) for edge in wanted} == wanted
