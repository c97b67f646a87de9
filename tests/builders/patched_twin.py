"""A slow twin of circuits, written by hand.

It knows no editing of what is read: it runs `by_hand`, in float64 and on one pair at a time, again
and again, adding to every target what its corrupted sources lack. After each run the targets of
one more layer read what they should.
"""

from typing import Any

import torch
from torch import Tensor

from tests.builders.twin import by_hand, embedded, loss_by_hand
from tracking.circuits.circuit import prune
from tracking.model.decoder import Decoder
from tracking.model.graph import Graph
from tracking.pairs.prompt_pairs import PromptPairs


def slowly_kept(model: Any, clean: Tensor, corrupted: Tensor, graph: Graph, kept: Tensor) -> Tensor:
    """Logits [position, vocabulary] with only the edges `kept`; embeddings [position, width]."""
    before = by_hand(model, corrupted).writes
    lost = {
        target: [
            source
            for row, source in enumerate(graph.sources)
            if graph.edge_mask[row, column] and not kept[row, column]
        ]
        for column, target in enumerate(graph.targets)
    }
    here = by_hand(model, clean)
    for _ in range(2 * graph.n_layers + 1):  # heads and MLP of each layer, and the logits
        patches = {
            target: torch.stack([before[s] - here.writes[s] for s in sources]).sum(0)
            for target, sources in lost.items()
            if sources
        }
        here = by_hand(model, clean, **patches)
    return here.logits


def slowly(model: Any, pairs: PromptPairs, metric: str, circuits: Tensor) -> Tensor:
    """The metric [circuit, pair] of the circuits [circuit, source, target].

    Behind a norm a head that leads nowhere would still count in what the others write: there, dead
    ends are no part of a circuit.
    """
    decoder = Decoder.of(model)
    graph = decoder.graph
    if decoder.blocks[0].attention_behind:
        circuits = prune(graph, circuits)
    out = torch.zeros(len(circuits), len(pairs), dtype=torch.double)
    assert pairs.labels is not None
    for index in range(len(pairs)):
        real = pairs.attention_mask[index].bool()
        ids = pairs.clean[index][real]
        ends = embedded(model, ids), embedded(model, pairs.corrupted[index][real])
        whole = by_hand(model, ends[0]).logits
        rest = whole, ids, pairs.supervised[index][real], pairs.labels[index]
        for place, kept in enumerate(circuits):
            logits = slowly_kept(model, *ends, graph, kept)
            out[place, index] = loss_by_hand(metric, logits, *rest)
    return out
