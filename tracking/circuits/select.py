"""The circuit of scores: how many of the top edges, and which."""

from __future__ import annotations

from torch import nn

from tracking.attribution.scores import Scores
from tracking.circuits.circuit import Circuit
from tracking.circuits.curve import curve_of, smallest
from tracking.circuits.faithfulness import Experiment
from tracking.circuits.top_edges import by_count, by_share, grown
from tracking.errors import BadInput
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.stability.bootstrap import resamples


def select(
    scores: Scores,
    share: float | None = None,
    edges: int | None = None,
    rank: str = "signed",
    greedy: bool = False,
    faithfulness: float | None = None,
    model: nn.Module | None = None,
    pairs: PromptPairs | None = None,
) -> Circuit:
    """The circuit of the top edges, dead ends pruned: `edges` of them, as many as hold `share` of
    the sum of |score|, or the fewest that reach a `faithfulness` of `model` on `pairs`.

    Edges are ranked by |signed mean| or, `absolute`, by mean |score| over pairs. `greedy` grows so
    many `edges` from `logits`. Raises `BadInput` unless one of the sizes is given.
    """
    if scores.edges.shape[1] == 1:
        raise BadInput("node-ig scores nodes, not edges: no circuit; use eap-ig")
    if rank not in ("signed", "absolute"):
        raise BadInput(f"rank is {rank!r}; it must be signed or absolute")
    ranked = scores.edges if rank == "signed" else scores.strength
    sizes = [size for size in (share, edges, faithfulness) if size is not None]
    if len(sizes) != 1 or (greedy and edges is None):
        raise BadInput("give one size: share=0.9, edges=5000 (greedy or not), faithfulness=0.8")
    if share is not None:
        return Circuit(scores.graph, by_share(scores.graph, ranked, share))
    if faithfulness is not None:
        if model is None or pairs is None:
            raise BadInput("a circuit by faithfulness needs model and pairs too")
        experiment = Experiment.of(model, pairs, scores.loss)
        if experiment.graph != scores.graph:
            raise BadInput("the scores are of a model of another shape than this one")
        known = curve_of(experiment, ranked, resamples(1, len(pairs)))
        edges = smallest(experiment, ranked, faithfulness, known)
    assert edges is not None
    choose = grown if greedy else by_count
    return Circuit(scores.graph, choose(scores.graph, ranked, edges))
