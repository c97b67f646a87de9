"""The scores of all edges, as data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor, nn

from tracking.attribution.importance import importance
from tracking.circuits.circuit import Circuit
from tracking.circuits.curve import curve_of, smallest
from tracking.circuits.faithfulness import Experiment
from tracking.circuits.selection import by_count, by_share, grown
from tracking.errors import BadInput
from tracking.model.graph import Graph
from tracking.model.passes import Metric
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.stability.bootstrap import resamples


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

    def circuit(
        self,
        share: float | None = None,
        edges: int | None = None,
        rank: str = "signed",
        greedy: bool = False,
        faithfulness: float | None = None,
        model: nn.Module | None = None,
        pairs: PromptPairs | None = None,
    ) -> Circuit:
        """The circuit of the top edges, dead ends pruned: `edges` of them, as many as hold `share`
        of the sum of |score|, or the fewest that reach a `faithfulness` of `model` on `pairs`.

        Edges are ranked by |signed mean| or, `absolute`, by mean |score| over pairs. `greedy`
        grows so many `edges` from `logits`. Raises `BadInput` unless one of the sizes is given.
        """
        if self.edges.shape[1] == 1:
            raise BadInput("node-ig scores nodes, not edges: no circuit; use eap-ig")
        if rank not in ("signed", "absolute"):
            raise BadInput(f"rank is {rank!r}; it must be signed or absolute")
        ranked = self.edges if rank == "signed" else self.strength
        sizes = [size for size in (share, edges, faithfulness) if size is not None]
        if len(sizes) != 1 or (greedy and edges is None):
            raise BadInput("give one size: share=0.9, edges=5000 (greedy or not), faithfulness=0.8")
        if share is not None:
            return Circuit(self.graph, by_share(self.graph, ranked, share))
        if faithfulness is not None:
            if model is None or pairs is None:
                raise BadInput("a circuit by faithfulness needs model and pairs too")
            experiment = Experiment.of(model, pairs, self.loss)
            if experiment.graph != self.graph:
                raise BadInput("the scores are of a model of another shape than this one")
            known = curve_of(experiment, ranked, resamples(1, len(pairs)))
            edges = smallest(experiment, ranked, faithfulness, known)
        assert edges is not None
        choose = grown if greedy else by_count
        return Circuit(self.graph, choose(self.graph, ranked, edges))
