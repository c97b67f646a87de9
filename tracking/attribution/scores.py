"""The scores of all edges, as data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from tracking.attribution.importance import importance
from tracking.errors import BadInput
from tracking.model.graph import Graph
from tracking.model.passes import Metric


@dataclass(frozen=True)
class Scores:
    """The scores of all edges on a set of pairs.

    `node-ig` scores no edges: its matrices have one column, each node's sum over all targets.
    """

    graph: Graph
    edges: Tensor  # float32 [source, target], signed mean over pairs; 0 where there is no edge
    strength: Tensor  # float32 [source, target], mean over pairs of the absolute value
    clean: Tensor  # float32 [pair], the metric of the clean prompts
    corrupted: Tensor  # float32 [pair]
    embed_sum: Tensor  # float32 [pair], the sum of `embed`'s row
    method: str
    metric: str
    steps: float  # gradients taken per pair, on average
    per_pair: Tensor | None = None  # float32 [pair, source, target], kept on request
    loss: str | Metric = ""  # the metric itself

    def __repr__(self) -> str:
        graph = self.graph
        return (
            f"Scores({self.method} by {self.metric}, {len(self.clean)} pairs, "
            f"{graph.n_layers} layers x {graph.n_heads} heads, {self.steps:g} steps, "
            f"completeness gap {self.gap:.3f})"
        )

    def edge(self, source: str, target: str) -> float:
        """The score of one edge, as in `scores.edge("L5H1", "L7H2.q")`."""
        if self.edges.shape[1] == 1:
            raise BadInput("node-ig scores nodes, not edges; see `scores.nodes`, or use eap-ig")
        return float(self.edges[self.graph.index(f"{source}->{target}")])

    @property
    def nodes(self) -> Tensor:
        """Float32 [source]: every node's signed score, the sum of its outgoing edges."""
        return self.edges.sum(1)

    @property
    def gap(self) -> float:
        """Completeness gap: how far `embed`'s rows are from metric(corrupted) - metric(clean).

        Summed over pairs before dividing, both as absolute values, so that errors of opposite
        sign do not cancel. It speaks of the integral only where the method has one.
        """
        difference = self.corrupted - self.clean
        error = (self.embed_sum - difference).abs().sum()
        return float(error / difference.abs().sum().clamp(min=1e-12))

    @property
    def heads(self) -> pd.DataFrame:
        """One row a head: its flows (`importance`), `effect` (the signed sum of the scores
        of its outgoing edges, its node score) and `strength` (the sum of their mean |score|).

        After `node-ig` there are no flows.
        """
        graph, rows = self.graph, self.graph.head_sources
        flows = pd.DataFrame({"head": graph.head_names})
        if self.edges.shape[1] > 1:
            flows = importance(graph, self.edges)
        return flows.assign(
            layer=np.repeat(np.arange(graph.n_layers), graph.n_heads),
            effect=self.edges[rows].sum(1).numpy(),
            strength=self.strength[rows].sum(1).numpy(),
        )
