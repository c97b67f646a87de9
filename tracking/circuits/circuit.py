"""A circuit: a set of edges, and the pruning of dead ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from tracking.model.graph import Graph


@dataclass(frozen=True)
class Circuit:
    """A set of edges of a graph."""

    graph: Graph
    edge_mask: Tensor  # BoolTensor [source, target]

    @classmethod
    def full(cls, graph: Graph) -> Circuit:
        """All edges."""
        return cls(graph, graph.edge_mask.clone())

    @classmethod
    def empty(cls, graph: Graph) -> Circuit:
        """No edge."""
        return cls(graph, torch.zeros_like(graph.edge_mask))

    @classmethod
    def of(cls, graph: Graph, edges: Iterable[str]) -> Circuit:
        """Just these edges, as they are: nothing is pruned. `BadInput` names an unknown one."""
        circuit = cls.empty(graph)
        for edge in edges:
            circuit.edge_mask[graph.index(edge)] = True
        return circuit

    @property
    def heads(self) -> list[str]:
        """The heads that stand in it, layer by layer."""
        inside = heads_in(self.graph, self.edge_mask)
        return [
            name
            for name, there in zip(self.graph.head_names, inside.tolist(), strict=True)
            if there
        ]


def prune(graph: Graph, edges: Tensor) -> Tensor:
    """The edges [..., source, target] that lie on a path from `embed` to `logits`."""
    fed = _fed(graph, edges)  # [..., source]
    used = _used(graph, edges)  # [..., target]
    return edges & fed[..., :, None] & used[..., None, :]


def heads_in(graph: Graph, edges: Tensor) -> Tensor:
    """BoolTensor [..., head]: which heads write along an edge of a pruned set."""
    return edges.any(-1)[..., graph.head_sources]


def _fed(graph: Graph, edges: Tensor) -> Tensor:
    """BoolTensor [..., source]: which sources a path from `embed` reaches."""
    fed = torch.zeros(edges.shape[:-1], dtype=torch.bool, device=edges.device)
    fed[..., 0] = True
    for layer in range(graph.n_layers):
        seen = graph.seen_by_attention(layer)
        into = edges[..., :seen, graph.attention_columns(layer)] & fed[..., :seen, None]
        reads = into.any(-2).unflatten(-1, (3, graph.n_heads))  # [..., read, head]
        fed[..., graph.head_rows(layer)] = reads.any(-2)
        seen = graph.seen_by_mlp(layer)
        into = edges[..., :seen, graph.mlp_column(layer)] & fed[..., :seen]
        fed[..., graph.mlp_row(layer)] = into.any(-1)
    return fed


def _used(graph: Graph, edges: Tensor) -> Tensor:
    """BoolTensor [..., target]: from which targets a path leads to `logits`."""
    used = torch.zeros(edges.shape[:-2] + edges.shape[-1:], dtype=torch.bool, device=edges.device)
    used[..., -1] = True
    for layer in reversed(range(graph.n_layers)):
        out = edges[..., graph.mlp_row(layer), :] & used
        used[..., graph.mlp_column(layer)] = out.any(-1)
        out = edges[..., graph.head_rows(layer), :] & used[..., None, :]
        writes = out.any(-1)  # [..., head]; a head's q, k and v are used where the head is
        used[..., graph.attention_columns(layer)] = torch.cat([writes] * 3, dim=-1)
    return used
