"""A circuit holds only edges on a path."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.edges import drawn, graphs, names, numbers, on_a_path, seeds
from tracking.circuits.circuit import Circuit, heads_in, prune
from tracking.circuits.top_edges import by_count, by_share
from tracking.errors import BadInput
from tracking.model.graph import Graph


@given(graphs, seeds, st.floats(0.02, 0.6))
def test_an_edge_survives_pruning_just_where_a_path_goes_through_it(
    graph: Graph, seed: int, kept: float
) -> None:
    edges = drawn(graph, kept, seed)
    pruned = prune(graph, edges)
    assert names(graph, pruned) == on_a_path(names(graph, edges))
    assert torch.equal(prune(graph, pruned), pruned)


def test_a_head_fed_through_k_alone_still_writes() -> None:
    graph = Graph(2, 2)
    chain = ["embed->L0H1.k", "L0H1->M0", "M0->L1H0.v", "L1H0->logits"]
    loose = ["embed->L0H0.q", "L0H0->L1H1.q", "M1->logits", "L1H1->M1"]
    for missing in chain:
        broken = Circuit.of(graph, [edge for edge in chain if edge != missing])
        assert not bool(prune(graph, broken.edge_mask).any())
    whole = Circuit.of(graph, chain)
    assert torch.equal(
        prune(graph, Circuit.of(graph, [*chain, *loose[:1]]).edge_mask), whole.edge_mask
    )
    assert int(prune(graph, Circuit.of(graph, chain + loose).edge_mask).sum()) == 8


@given(graphs, seeds, st.floats(0.05, 1))
def test_many_circuits_at_once_are_the_same_as_one_by_one(
    graph: Graph, seed: int, share: float
) -> None:
    scores = numbers(graph, seed, 9, 2, 3)
    together = by_share(graph, scores, share)
    counted = by_count(graph, scores + 0.01 * torch.arange(graph.edge_mask.shape[1]), 7)
    heads = heads_in(graph, together)
    edges = drawn(graph, 0.3, seed, 2, 3)
    pruned = prune(graph, edges)
    for i in range(2):
        for j in range(3):
            assert torch.equal(together[i, j], by_share(graph, scores[i, j], share))
            alone = by_count(graph, scores[i, j] + 0.01 * torch.arange(graph.edge_mask.shape[1]), 7)
            assert torch.equal(counted[i, j], alone)
            assert torch.equal(heads[i, j], heads_in(graph, together[i, j]))
            assert torch.equal(pruned[i, j], prune(graph, edges[i, j]))


@given(graphs, seeds)
def test_a_circuit_of_names_has_just_these_edges_and_their_heads(graph: Graph, seed: int) -> None:
    edges = drawn(graph, 0.2, seed)
    written = names(graph, edges)
    circuit = Circuit.of(graph, ["->".join(edge) for edge in written])
    assert torch.equal(circuit.edge_mask, edges)
    writing = {source for source, _ in written}
    assert circuit.heads == [head for head in graph.head_names if head in writing]


@given(graphs)
def test_full_is_every_edge_and_empty_none_and_neither_is_shared(graph: Graph) -> None:
    full, empty = Circuit.full(graph), Circuit.empty(graph)
    assert names(graph, full.edge_mask) == names(graph, graph.edge_mask)
    assert full.heads == list(graph.head_names)
    assert torch.equal(prune(graph, full.edge_mask), full.edge_mask)
    assert empty.heads == [] and not bool(empty.edge_mask.any())
    full.edge_mask[0, 0], empty.edge_mask[0, 0] = False, True
    assert bool(Circuit.full(graph).edge_mask[0, 0]) and not bool(
        Circuit.empty(graph).edge_mask[0, 0]
    )


def test_a_circuit_of_an_unknown_edge_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match=r"'M0->L0H0\.q'"):
        Circuit.of(Graph(1, 1), ["embed->M0", "M0->L0H0.q"])
