"""Entry: the fewest top edges among which a node or an edge lies on a path.

Edges are taken by |score|, largest first. A path is whole once its last edge is taken, so the size
at which a node comes in is a minimax over paths, found for all nodes and all sizes by one walk
through the layers in either direction:

    F(v) = min over edges (u -> v) of max(F(u), rank of the edge)     from `embed`
    G(u) = min over edges (u -> v) of max(rank of the edge, G(v))     from `logits`
    entry = max(F, G) of a node, max(F(u), rank, G(v)) of an edge

A head's F is the least over what its q, k and v read.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tracking.circuits.top_edges import ranks
from tracking.model.graph import Graph


@dataclass(frozen=True)
class Entry:
    """At how many top edges each node and edge is in the circuit, 1 for the strongest edge.

    What no circuit takes (an edge without a score, a node without a path, a cell where there is no
    edge) has the number of all edges + 1, beyond all sizes.
    """

    nodes: Tensor  # int32 [..., node], heads and MLPs as in `Graph.nodes`
    edges: Tensor  # int32 [..., source, target]


def entry(graph: Graph, scores: Tensor) -> Entry:
    """The entry of all nodes and edges by `scores` [..., source, target].

    A circuit of any size follows: `edges <= count` is `by_count(graph, scores, count)`, and the
    nodes of it are those with `nodes <= count`.
    """
    ranked = ranks(graph, scores)
    fed, used = _fed(graph, ranked), _used(graph, ranked)
    edges = torch.maximum(ranked, fed[..., :, None])
    edges = torch.maximum(edges, used[..., None, :], out=edges)
    columns = torch.tensor([graph.reads_of(row)[0] for row in range(1, len(graph.sources))])
    nodes = torch.maximum(fed[..., 1:], used[..., columns.to(used.device)])
    return Entry(nodes, edges)


def _fed(graph: Graph, ranked: Tensor) -> Tensor:
    """Int32 [..., source]: among how many top edges a path from `embed` reaches a source."""
    fed = torch.zeros(ranked.shape[:-1], dtype=torch.int32, device=ranked.device)
    for layer in range(graph.n_layers):
        seen, columns = graph.seen_by_attention(layer), graph.attention_columns(layer)
        reached = torch.maximum(ranked[..., :seen, columns], fed[..., :seen, None]).amin(-2)
        fed[..., graph.head_rows(layer)] = reached.unflatten(-1, (3, graph.n_heads)).amin(-2)
        seen, column = graph.seen_by_mlp(layer), graph.mlp_column(layer)
        reached = torch.maximum(ranked[..., :seen, column], fed[..., :seen]).amin(-1)
        fed[..., graph.mlp_row(layer)] = reached
    return fed


def _used(graph: Graph, ranked: Tensor) -> Tensor:
    """Int32 [..., target]: among how many top edges a path leads from a target to `logits`."""
    shape = (*ranked.shape[:-2], ranked.shape[-1])
    used = torch.zeros(shape, dtype=torch.int32, device=ranked.device)
    for layer in reversed(range(graph.n_layers)):
        after = slice(graph.mlp_column(layer) + 1, None)
        leads = torch.maximum(ranked[..., graph.mlp_row(layer), after], used[..., after])
        used[..., graph.mlp_column(layer)] = leads.amin(-1)
        after = slice(graph.mlp_column(layer), None)
        leads = torch.maximum(ranked[..., graph.head_rows(layer), after], used[..., None, after])
        used[..., graph.attention_columns(layer)] = torch.cat([leads.amin(-1)] * 3, dim=-1)
    return used
