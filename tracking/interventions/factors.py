"""What an intervention is asked to do: a factor for every node that is touched, in every row."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tracking.errors import BadInput
from tracking.model.decoder import Decoder
from tracking.model.graph import Graph

Nodes = Mapping[str, float] | Collection[str]
"""Factors of nodes by name, `{"L5H1": 0.5, "M5": 0.0}`; names alone stand for factors of 0."""


@dataclass(frozen=True)
class Factors:
    """What every touched node's own output is multiplied by, float32, [row or 1, 1, feature]."""

    heads: dict[int, Tensor]  # by layer [.., head * head_dim]
    mlps: dict[int, Tensor]  # by layer [.., 1]
    rows: int | None  # None where all rows are alike

    @classmethod
    def of(cls, decoder: Decoder, factors: Nodes | Sequence[Nodes]) -> Factors:
        """Of `Nodes` for all rows alike, or a sequence of them, one a row.

        Layers in which every factor is 1 are left out. Raises `BadInput` for a name that is no
        node, or a factor that is not finite.
        """
        by_row = rows_of(factors)
        graph, each = decoder.graph, [factors] if by_row is None else by_row
        table = torch.ones(len(each), graph.n_layers, graph.n_heads + 1)
        for row, nodes in enumerate(each):
            for (layer, slot), factor in checked(graph, nodes).items():  # type: ignore[arg-type]
                table[row, layer, slot] = factor
        heads, mlps = {}, {}
        for layer, here in enumerate(table.unbind(1)):  # [row, head, then the MLP]
            if bool((here[:, :-1] != 1).any()):
                heads[layer] = here[:, None, :-1].repeat_interleave(decoder.head_dim, dim=-1)
            if bool((here[:, -1] != 1).any()):
                mlps[layer] = here[:, None, -1:]
        return cls(heads, mlps, None if by_row is None else len(by_row))


def rows_of(factors: Nodes | Sequence[Nodes]) -> list[Nodes] | None:
    """The `Nodes` of each row; None where they are for all rows alike."""
    if isinstance(factors, Mapping) or all(isinstance(node, str) for node in factors):
        return None
    return list(factors)  # type: ignore[arg-type]


def checked(graph: Graph, nodes: Nodes) -> dict[tuple[int, int], float]:
    """Factors by layer and slot: the head's number, or the number of heads for the MLP."""
    by_name = nodes if isinstance(nodes, Mapping) else dict.fromkeys(nodes, 0.0)
    for node, factor in by_name.items():
        try:
            finite = math.isfinite(torch.tensor(float(factor)))  # as the model's float32 has it
        except (TypeError, ValueError):
            finite = False
        if not finite:
            raise BadInput(f"the factor of {node} is {factor!r}; it must be a finite number")
    return dict(zip(slots(graph, by_name), map(float, by_name.values()), strict=True))


def slots(graph: Graph, nodes: Collection[str]) -> list[tuple[int, int]]:
    """Layer and slot of each node; `BadInput` for a name that is none."""
    for node in nodes:
        if node not in graph.nodes:
            raise BadInput(
                f"no node {node!r}; heads are L0H0 to {graph.head_names[-1]}, "
                f"MLPs M0 to {graph.nodes[-1]}"
            )
    return [divmod(graph.nodes.index(node), graph.n_heads + 1) for node in nodes]
