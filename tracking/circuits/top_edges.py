"""Circuits: sets of edges in which every node lies on a path from `embed` to `logits`.

Edges are taken by |score|, largest first; then dead ends are pruned. How many is a `Selection`: a
number, the share of the sum of |score| that they hold, or what it takes to be faithful
(`tracking.faithfulness`). Never an absolute threshold, which would drift with the scale of the
logits. Everything works on [..., source, target], so that the circuits of all bootstrap resamples
come out of one call.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from tracking.circuits.circuit import prune
from tracking.errors import BadInput
from tracking.model.graph import Graph


@dataclass(frozen=True)
class Selection:
    """How large a circuit is: `share` of the sum of |score|, number of `edges`, or the fewest edges
    that reach a `faithfulness`."""

    kind: str
    amount: float

    KINDS = ("share", "edges", "faithfulness")

    @classmethod
    def parse(cls, text: str) -> Selection:
        """From `share=0.9`, `edges=5000` or `faithfulness=0.8`; `BadInput` for anything else."""
        kind, equals, amount = (part.strip() for part in str(text).partition("="))
        try:
            number = float(amount)
        except ValueError:
            number = 0.0
        whole = kind == "edges" and number.is_integer()
        if not equals or kind not in cls.KINDS or not (0 < number <= 1 or (whole and number >= 1)):
            raise BadInput(
                f"select is {text!r}; it must be like share=0.9 or faithfulness=0.8 (above 0, at "
                "most 1), or edges=5000"
            )
        if kind == "edges" and not whole:
            raise BadInput(f"select is {text!r}; edges is a whole number")
        return cls(kind, number)

    def edges(self, graph: Graph, scores: Tensor) -> Tensor:
        """The circuits [..., source, target] by `share` or `edges`; faithfulness takes a model."""
        if self.kind == "share":
            return by_share(graph, scores, self.amount)
        return by_count(graph, scores, int(self.amount))

    def count(self, graph: Graph, scores: Tensor) -> int:
        """How many edges are taken of [source, target] by `share` or `edges`, before pruning."""
        if self.kind == "share":
            return int(_within_share(graph, scores, self.amount).sum())
        return int(self.amount)


def by_share(graph: Graph, scores: Tensor, share: float) -> Tensor:
    """The fewest edges that hold `share` of the sum of |score|, dead ends pruned.

    `scores` [..., source, target] gives BoolTensor of that shape. Edges that tie with the last one
    taken are taken too, so that a tie is not cut through at random. Scores that are all zero give
    no edge. Raises `BadInput` for a share that is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise BadInput(f"share is {share}; it must be above 0 and at most 1")
    return prune(graph, _within_share(graph, scores, share))


def _within_share(graph: Graph, scores: Tensor, share: float) -> Tensor:
    strength = scores.abs()[..., graph.edge_mask]  # [..., edge]
    ranked = strength.sort(dim=-1, descending=True).values
    so_far = ranked.double().cumsum(-1)
    wanted = so_far[..., -1:] * share
    count = (so_far < wanted * (1 - 1e-9)).sum(-1, keepdim=True)  # edges before the last needed
    smallest = ranked.gather(-1, count.clamp(max=ranked.shape[-1] - 1))
    chosen = (strength >= smallest) & (strength > 0)
    mask = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    mask[..., graph.edge_mask] = chosen
    return mask


def by_count(graph: Graph, scores: Tensor, count: int) -> Tensor:
    """The `count` edges of largest |score|, dead ends pruned; shapes as in `by_share`, ties cut as
    in `ranks`."""
    if count < 1:
        raise BadInput(f"edges is {count}; a circuit needs at least 1")
    strength = scores.abs()[..., graph.edge_mask]  # [..., edge]
    top = strength.topk(min(count, strength.shape[-1]), dim=-1, sorted=False).values
    last = top.amin(-1, keepdim=True)
    above, tied = strength > last, strength == last
    room = count - above.sum(-1, keepdim=True)
    chosen = above | (tied & (tied.cumsum(-1, dtype=torch.int32) <= room))
    mask = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    mask[..., graph.edge_mask] = chosen & (strength > 0)
    return prune(graph, mask)


def ranks(graph: Graph, scores: Tensor) -> Tensor:
    """Int32 [..., source, target]: the place of every edge by |score|, 1 for the largest.

    Of edges that tie, the one in the earlier row comes first, then the one in the earlier column.
    Edges without a score, and cells where there is no edge, have the number of all edges + 1.
    """
    strength = scores.abs()[..., graph.edge_mask]  # [..., edge]
    total = strength.shape[-1]
    order = strength.argsort(dim=-1, descending=True, stable=True)
    places = torch.arange(1, total + 1, dtype=torch.int32, device=scores.device)
    ranked = torch.empty_like(order, dtype=torch.int32).scatter_(-1, order, places.expand_as(order))
    beyond = ranked.new_full(scores.shape, total + 1)
    beyond[..., graph.edge_mask] = ranked.masked_fill_(strength == 0, total + 1)
    return beyond


def grown(graph: Graph, scores: Tensor, count: int) -> Tensor:
    """`count` edges grown from `logits`: each time the one of largest |score| that leads into what
    is there already; dead ends pruned. `scores` [source, target] gives a BoolTensor of that shape.

    Unlike `by_count` it never takes an edge that leads nowhere (Hanna et al. 2403.17806, greedy).
    """
    if count < 1:
        raise BadInput(f"edges is {count}; a circuit needs at least 1")
    strength, edges = scores.abs(), torch.zeros_like(graph.edge_mask)
    frontier: list[tuple[float, int, int]] = []
    reached = set()

    def reach(columns: Iterable[int]) -> None:
        for column in columns:
            for row in range(int(graph.visible[column])):
                heapq.heappush(frontier, (-float(strength[row, column]), row, column))

    reach([len(graph.targets) - 1])
    while frontier and count:
        lost, row, column = heapq.heappop(frontier)
        if lost == 0:
            break
        edges[row, column] = True
        count -= 1
        if row not in reached:
            reached.add(row)
            reach(graph.reads_of(row))
    return prune(graph, edges)
