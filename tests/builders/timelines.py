"""Records of runs by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tests.builders.analyses import make_analysis
from tracking.ledger.record import Analysis, Record
from tracking.model.graph import Graph

EVERY = 10  # training steps between checkpoints
ON = 0.4  # the share of a node that is active


def records_of(graph: Graph, analyses: Sequence[Analysis], **more: Any) -> list[Record]:
    """Of the checkpoints of a run, at steps 0, 10, 20 ..., on pairs of contrast `cue`; `more` are
    what differs in all of them."""
    return [
        Record(EVERY * place, graph.n_layers, graph.n_heads, "ab12", {"cue": analysis}, **more)
        for place, analysis in enumerate(analyses)
    ]


def records_by(graph: Graph, shares: Any, noise: float = 0.0, **more: Any) -> list[Record]:
    """Of a run with these shares, [step, node]; `noise` over pairs is the same at all steps. `more`
    are what differs in all analyses."""
    rows = torch.as_tensor(np.asarray(shares)).float()
    return records_of(graph, [make_analysis(graph, row, noise, **more) for row in rows])


def records_named(
    graph: Graph, shares: Mapping[str, Sequence[float]], noise: float = 0.01, **more: Any
) -> list[Record]:
    """The same of the shares [step] of some nodes, by name; of all others they are 0."""
    rows = np.zeros((len(next(iter(shares.values()))), len(graph.nodes)))
    for node, path in shares.items():
        rows[:, graph.nodes.index(node)] = path
    return records_by(graph, rows, noise, **more)


def records_from(histories: Sequence[str], **more: Any) -> list[Record]:
    """Of one layer with a head for each of `..##.`, active, for sure, where there is a #."""
    active = np.array([[letter == "#" for letter in row] for row in histories]).T  # [step, head]
    return records_by(Graph(1, len(histories)), np.pad(ON * active, ((0, 0), (0, 1))), **more)
