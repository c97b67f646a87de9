"""Nodes and edges stand where the golden files have them."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from tests.builders.draws import arches
from tracking.errors import BadInput
from tracking.model.decoder import Decoder
from tracking.model.graph import Graph

GOLDEN = ["qwen2_tiny", "qwen2_ragged", "qwen3_tiny", "llama_tied"]

graphs = st.builds(Graph, n_layers=st.integers(1, 4), n_heads=st.integers(1, 5))


def order(node: str) -> float:
    """When a node runs: a layer's heads together, then its MLP."""
    if node in ("embed", "logits"):
        return -1 if node == "embed" else float("inf")
    if node.startswith("M"):
        return 2 * int(node[1:]) + 1
    return 2 * int(node[1:].split("H")[0])


@pytest.mark.parametrize("name", GOLDEN)
def test_nodes_and_edges_are_those_of_the_golden_files(shared: Path, name: str) -> None:
    with safe_open(shared / "golden" / f"{name}.safetensors", "pt") as file:
        facts, edges = file.metadata(), file.get_tensor("real_edge_mask").bool()
    graph = Graph(n_layers=4, n_heads=4)
    assert list(graph.sources) == json.loads(facts["sources"])
    assert list(graph.targets) == json.loads(facts["targets"])
    assert torch.equal(graph.edge_mask, edges)


@given(graphs)
def test_a_node_sees_exactly_what_ran_before_it(graph: Graph) -> None:
    for row, source in enumerate(graph.sources):
        for column, target in enumerate(graph.targets):
            sees = order(source) < order(target)
            assert bool(graph.edge_mask[row, column]) == sees == (row < int(graph.visible[column]))


@given(graphs)
def test_slices_and_rows_name_the_nodes_they_are_of(graph: Graph) -> None:
    heads = range(graph.n_heads)
    for layer in range(graph.n_layers):
        written = [f"L{layer}H{head}" for head in heads]
        read = [f"{head}.{part}" for part in "qkv" for head in written]
        assert list(graph.sources[graph.head_rows(layer)]) == written
        assert list(graph.targets[graph.attention_columns(layer)]) == read
        assert graph.sources[graph.mlp_row(layer)] == f"M{layer}"
        assert graph.targets[graph.mlp_column(layer)] == f"M{layer}"
    assert [graph.sources[row] for row in graph.head_sources] == list(graph.head_names)
    assert len(graph.head_names) == graph.n_layers * graph.n_heads


def test_a_decoder_of_28_layers_and_12_heads_has_183555_edges() -> None:
    assert int(Graph(28, 12).edge_mask.sum()) == 183_555


@given(st.integers(1, 30), st.integers(1, 16))
def test_the_number_of_edges_follows_the_formula(layers: int, heads: int) -> None:
    earlier = layers * (layers - 1) // 2 * (heads + 1)  # nodes in earlier layers, over all layers
    attention = 3 * heads * (layers + earlier)
    mlps = layers * (1 + heads) + earlier
    logits = 1 + layers * (heads + 1)
    assert int(Graph(layers, heads).edge_mask.sum()) == attention + mlps + logits


@given(graphs)
def test_every_edge_is_found_by_its_name_and_nothing_else_is(graph: Graph) -> None:
    for row, source in enumerate(graph.sources):
        for column, target in enumerate(graph.targets):
            if graph.edge_mask[row, column]:
                assert graph.index(f"{source}->{target}") == (row, column)
            else:
                with pytest.raises(BadInput):
                    graph.index(f"{source}->{target}")


@pytest.mark.parametrize(
    "edge",
    [
        "",
        "embed",
        "embed->",
        "->M0",
        "embed-M0",
        "embed -> M0",
        "embed->L0H0",  # of which read?
        "embed->L0H0.o",
        "embed->L9H0.q",
        "L0H9->logits",
        "logits->M0",
        "embed->embed",
        "embed->M0->logits",
        "L0H0->L0H1.q",  # heads of a layer do not see each other
        "M0->L0H0.q",
        "M0->M0",
        "L1H0->L0H0.k",
    ],
)
def test_an_edge_that_is_not_there_is_named_in_one_line(edge: str) -> None:
    with pytest.raises(BadInput) as raised:
        Graph(2, 2).index(edge)
    assert repr(edge) in str(raised.value)
    assert "\n" not in str(raised.value)


@arches
def test_the_graph_of_a_model_has_its_layers_and_query_heads(tiny_decoder, arch: str) -> None:
    assert Decoder.of(tiny_decoder(arch, layers=3, heads=6, width=48)).graph == Graph(3, 6)


def test_nodes_are_heads_and_mlps_layer_by_layer():
    graph = Graph(2, 2)
    assert graph.nodes == ("L0H0", "L0H1", "M0", "L1H0", "L1H1", "M1")
    assert [graph.nodes[place] for place in graph.node_heads] == list(graph.head_names)
