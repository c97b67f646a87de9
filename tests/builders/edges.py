"""Circuits of random edges."""

import networkx as nx
import torch
from hypothesis import strategies as st
from torch import Tensor

from tracking.model.graph import Graph


def drawn(graph: Graph, kept: float, seed: int, *more: int) -> Tensor:
    """Random edges, a share `kept` of all; they need not lie on a path."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(*more, *graph.edge_mask.shape, generator=generator) < kept) & graph.edge_mask


graphs = st.builds(Graph, n_layers=st.integers(1, 3), n_heads=st.integers(1, 3))


def numbers(graph: Graph, seed: int, largest: int, *more: int) -> Tensor:
    """Random whole scores, so that sums are exact and ties are many."""
    generator = torch.Generator().manual_seed(seed)
    shape = (*more, *graph.edge_mask.shape)
    scores = torch.randint(-largest, largest + 1, shape, generator=generator)
    return scores.float() * graph.edge_mask


def names(graph: Graph, edges: Tensor) -> set[tuple[str, str]]:
    return {(graph.sources[row], graph.targets[column]) for row, column in edges.nonzero().tolist()}


def random_scores(graph: Graph, pairs: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(pairs, *graph.edge_mask.shape, generator=generator) * graph.edge_mask


def paths(effects: Tensor, noise: float, pairs: int, seed: int = 0) -> tuple[Graph, Tensor]:
    """Heads side by side, each with an effect that every pair shows with noise of its own; edges
    from `embed` are sure and come first."""
    graph = Graph(1, len(effects))
    generator = torch.Generator().manual_seed(seed)
    scores = torch.zeros(pairs, *graph.edge_mask.shape)
    for name, effect in zip(graph.head_names, effects.tolist(), strict=True):
        scores[:, 0, graph.targets.index(f"{name}.v")] = 1
        seen = effect + noise * torch.randn(pairs, generator=generator)
        scores[:, graph.sources.index(name), -1] = seen
    return graph, scores


seeds = st.integers(0, 2**31)


def on_a_path(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The edges on a path from embed to logits, by networkx: a read belongs to its head."""
    web = nx.DiGraph([(source, target.split(".")[0]) for source, target in edges])
    web.add_nodes_from(["embed", "logits"])
    fed = nx.descendants(web, "embed") | {"embed"}
    used = nx.ancestors(web, "logits") | {"logits"}
    return {(s, t) for s, t in edges if s in fed and t.split(".")[0] in used}
