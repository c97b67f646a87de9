"""Runs of a decoder in which chosen edges carry their corrupted value: the truth by brute force.

The prompt is the clean one. Every target reads the residual stream less the differences that its
corrupted edges would have carried:

    x_v = stream - sum over corrupted edges (u -> v) of (output of u here - output of u corrupted)

one matrix product per layer, every row of a batch with a set of edges of its own. Keeping all edges
is the clean run, keeping none the corrupted one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tracking.model import decoder as hooks
from tracking.model.decoder import Decoder, run
from tracking.model.edits import edited
from tracking.model.graph import Graph
from tracking.model.passes import Outputs, logits
from tracking.model.taps import tapped
from tracking.pairs.prompt_pairs import PromptPairs


class Patch:
    """A `hooks.Editor` that corrupts the edges of `dropped`, BoolTensor [row, source, target]."""

    def __init__(self, decoder: Decoder, graph: Graph, corrupted: Outputs, dropped: Tensor) -> None:
        self.decoder, self.graph, self.corrupted = decoder, graph, corrupted
        self.dropped = dropped.float().transpose(1, 2)  # [row, target, source]
        rows, positions, width = corrupted.embeddings.shape
        shape = (rows, len(graph.sources), positions, width)
        self.changes = corrupted.embeddings.new_zeros(shape)  # output here - output corrupted

    def embed(self, embeddings: Tensor) -> None:
        """Told what `embed` writes, [row, position, width]."""
        self.changes[:, 0] = embeddings.float() - self.corrupted.embeddings

    def attention(self, layer: int, stream: Tensor) -> Tensor:
        seen, columns = self.graph.seen_by_attention(layer), self.graph.attention_columns(layer)
        return stream[:, None] - self._lost(seen, columns)

    def z(self, layer: int, z: Tensor) -> None:
        change = z - self.corrupted.z[layer]
        writes = self.decoder.writes(layer, change).transpose(1, 2)
        self.changes[:, self.graph.head_rows(layer)] = writes

    def mlp(self, layer: int, stream: Tensor) -> Tensor:
        seen, column = self.graph.seen_by_mlp(layer), self.graph.mlp_column(layer)
        return stream - self._lost(seen, slice(column, column + 1))[:, 0]

    def mlp_out(self, layer: int, out: Tensor) -> None:
        self.changes[:, self.graph.mlp_row(layer)] = out - self.corrupted.mlp_outs[layer]

    def logits(self, stream: Tensor) -> Tensor:
        seen = len(self.graph.sources)
        return stream - self._lost(seen, slice(-1, None))[:, 0]

    def _lost(self, seen: int, columns: slice) -> Tensor:
        """What the corrupted edges into the targets of `columns` would have carried more than they
        do, [row, target, position, width]."""
        changes = self.changes[:, :seen].flatten(2)  # [row, source, position * width]
        lost = torch.bmm(self.dropped[:, columns, :seen], changes)
        return lost.unflatten(-1, self.changes.shape[2:])


def patched_logits(
    decoder: Decoder, graph: Graph, pairs: PromptPairs, corrupted: Outputs, dropped: Tensor
) -> Tensor:
    """Float32 [row, look, vocabulary] with the edges `dropped` [row, source, target] corrupted.

    `pairs` and `corrupted` have a row for each of `dropped`'s.
    """
    patch = Patch(decoder, graph, corrupted, dropped)
    with torch.no_grad(), edited(decoder, patch):
        embeddings = hooks.embed(decoder, pairs.clean)
        patch.embed(embeddings)
        return logits(decoder, embeddings, pairs)


def outputs(decoder: Decoder, pairs: PromptPairs, token_ids: Tensor) -> Outputs:
    """What the parts give on `token_ids` [pair, position], the clean or the corrupted prompts."""
    with torch.no_grad(), tapped(decoder) as taps:
        embeddings = hooks.embed(decoder, token_ids)
        run(decoder, embeddings, pairs.attention_mask)
        return Outputs.seen(embeddings, taps)
