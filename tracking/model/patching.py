"""Runs of a decoder in which chosen edges carry their corrupted value: the truth by brute force.

The prompt is the clean one. Every target reads the corrupted residual stream, and the differences
that its kept edges carry:

    x_v = corrupted stream + sum over kept edges (u -> v) of (output of u here - u's corrupted one)

so that a part without kept edges on its way out need not run: the circuit alone is computed. Its
sources' differences lie below each other in one tensor, and the streams of all targets of a layer
are one matrix product with it. Keeping all edges is the clean run, keeping none the corrupted one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tracking.model.decoder import Decoder, embed, run
from tracking.model.edits import edited
from tracking.model.graph import Graph
from tracking.model.passes import Outputs, logits
from tracking.model.taps import Taps, tapped
from tracking.pairs.prompt_pairs import PromptPairs


@dataclass(frozen=True)
class Corrupted:
    """The corrupted run: what the parts give, and what they read."""

    outputs: Outputs
    streams: list[Tensor]  # by layer [row, position, width], what the heads read, before the norm
    mlp_streams: list[Tensor]  # by layer [row, position, width]
    last_stream: Tensor  # [row, position, width], what `logits` reads

    @classmethod
    def seen(cls, outputs: Outputs, taps: Taps) -> Corrupted:
        """Of the last pass of a tapped decoder, which gave `outputs`."""
        streams = [tap.stream.detach() for tap in taps.layers]
        mlp_streams = [tap.mlp_stream.detach() for tap in taps.layers]
        return cls(outputs, streams, mlp_streams, taps.logits_stream.detach())

    @classmethod
    def of(cls, decoder: Decoder, pairs: PromptPairs) -> Corrupted:
        """By one pass on the corrupted prompts."""
        with torch.no_grad(), tapped(decoder) as taps:
            embeddings = embed(decoder, pairs.corrupted)
            run(decoder, embeddings, pairs.attention_mask)
            return cls.seen(Outputs.seen(embeddings, taps), taps)

    @property
    def bytes(self) -> int:
        """What it takes in memory."""
        streams = [*self.streams, *self.mlp_streams, self.last_stream]
        return sum(part.numel() * part.element_size() for part in [*self.outputs.parts, *streams])

    def rows(self, rows: Tensor) -> Corrupted:
        """Of the pairs at `rows`."""
        return Corrupted(
            self.outputs.rows(rows),
            [stream[rows] for stream in self.streams],
            [stream[rows] for stream in self.mlp_streams],
            self.last_stream[rows],
        )


class Patch:
    """A `hooks.Editor` that keeps the edges `kept`, BoolTensor [source, target] for all rows alike,
    or [row, source, target]."""

    def __init__(self, decoder: Decoder, graph: Graph, corrupted: Corrupted, kept: Tensor) -> None:
        self.decoder, self.graph, self.corrupted = decoder, graph, corrupted
        computed = kept.any(-1) if kept.ndim == 2 else kept.any(-1).any(0)  # [source]
        self.computed = computed.nonzero()[:, 0]
        self.rows = [0, *self.computed.cpu().tolist()]  # of the graph, by place in `changes`
        into = kept[..., self.computed, :].transpose(-1, -2)  # [.., target, computed source]
        self.kept, self.shape = into, corrupted.outputs.embeddings.shape
        # a base first, so that one product adds the changes to it too
        self.changes = corrupted.outputs.embeddings.new_empty(1 + len(self.computed), *self.shape)
        self.filled = 1
        self.sum = torch.zeros_like(corrupted.outputs.embeddings)  # of all changes so far

    def embed(self, embeddings: Tensor) -> None:
        """Told what `embed` writes, [row, position, width]."""
        if 0 in self.rows[1:]:
            self._add(embeddings.float() - self.corrupted.outputs.embeddings)

    def heads(self, layer: int) -> list[int]:
        """The heads of a layer that run."""
        rows = self.graph.head_rows(layer)
        return [row - rows.start for row in self.rows[1:] if rows.start <= row < rows.stop]

    def reads(self, layer: int) -> tuple[Tensor, ...] | None:
        heads = torch.tensor(self.heads(layer), dtype=torch.long, device=self.changes.device)
        if not len(heads):
            return None
        targets = torch.cat([heads + place * self.graph.n_heads for place in range(3)])
        stream = self.corrupted.streams[layer].float()
        columns = self.graph.attention_columns(layer).start + targets
        whole, none, own = self._sorted(columns)
        weights = self.decoder.read_weights(layer)[targets]  # [target, head_dim, width]
        out = stream.new_empty(len(targets), self.shape[0] * self.shape[1], weights.shape[1])
        for places, shared in ((none, stream), (whole, stream + self.sum)):
            if len(places):
                out[places] = self._shared_reads(layer, shared, weights[places])
        if len(own):
            streams = self._streams(columns[own], stream).flatten(1, 2)  # [target, position, width]
            read = torch.bmm(streams, weights[own].transpose(1, 2))
            out[own] = read * self.decoder.norm_rate(layer, streams)
        bias = self.decoder.read_biases(layer)
        if bias is not None:
            out += bias.view(3 * self.graph.n_heads, 1, -1)[targets]
        by_read = out.unflatten(1, self.shape[:2]).chunk(3)  # [head, row, position, head_dim]
        return tuple(read.permute(1, 2, 0, 3).flatten(2) for read in by_read)

    def z(self, layer: int, z: Tensor) -> None:
        heads = self.heads(layer)
        before = self.corrupted.outputs.z[layer].unflatten(-1, (self.graph.n_heads, -1))
        change = z.unflatten(-1, (len(heads), -1)) - before[:, :, heads]
        weight = self.decoder.projection(layer, "o")  # [width, head * head_dim]
        each = weight.T.unflatten(0, (self.graph.n_heads, -1))[heads]  # [head, head_dim, width]
        change = change.flatten(0, 1).transpose(0, 1)  # [head, position, head_dim]
        self._add(torch.bmm(change, each).unflatten(1, self.shape[:2]))

    def mlp(self, layer: int) -> Tensor | None:
        if self.graph.mlp_row(layer) not in self.rows[1:]:
            return None
        return self._stream(self.graph.mlp_column(layer), self.corrupted.mlp_streams[layer])

    def mlp_out(self, layer: int, out: Tensor) -> None:
        self._add(out - self.corrupted.outputs.mlp_outs[layer])

    def logits(self) -> Tensor:
        return self._stream(len(self.graph.targets) - 1, self.corrupted.last_stream)

    def _add(self, changes: Tensor) -> None:
        """The changes of the next sources, [row, position, width] or [source, ...]."""
        changes = changes.view(-1, *self.shape)
        self.changes[self.filled : self.filled + len(changes)] = changes
        self.filled += len(changes)
        self.sum += changes.sum(0)

    def _sorted(self, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The places of `columns` that keep all changes so far, none of them, or some."""
        kept = self.kept[..., columns, : self.filled - 1]  # [.., target, source]
        kept = kept.transpose(0, -2).flatten(1)  # [target, all else]
        none = ~kept.any(1)
        whole = kept.all(1) & ~none
        return tuple(where.nonzero()[:, 0] for where in (whole, none, ~whole & ~none))

    def _stream(self, column: int, corrupted: Tensor) -> Tensor:
        """What one target reads, [row, position, width]."""
        columns = torch.tensor([column], device=self.changes.device)
        whole, none, _ = self._sorted(columns)
        if len(none):
            return corrupted.float()
        if len(whole):
            return corrupted + self.sum
        return self._streams(columns, corrupted.float())[0]

    def _streams(self, columns: Tensor, corrupted: Tensor) -> Tensor:
        """What each of some targets reads, [target, row, position, width]."""
        self.changes[0] = corrupted
        changes = self.changes[: self.filled].flatten(2)  # [source, row, position * width]
        kept = self.kept[..., columns, : self.filled - 1].to(changes)
        shares = torch.nn.functional.pad(kept, (1, 0), value=1)  # all of the base
        if shares.ndim == 2:
            streams = (shares @ changes.flatten(1)).unflatten(1, changes.shape[1:])
        else:
            streams = torch.bmm(shares, changes.transpose(0, 1)).transpose(0, 1)
        return streams.unflatten(2, self.shape[1:])

    def _shared_reads(self, layer: int, stream: Tensor, weights: Tensor) -> Tensor:
        """[target, position, head_dim] of targets that read the same stream."""
        normed = (stream * self.decoder.norm_rate(layer, stream)).flatten(0, 1)
        reads = torch.nn.functional.linear(normed, weights.flatten(0, 1))
        return reads.unflatten(1, weights.shape[:2]).transpose(0, 1)


def patched_logits(
    decoder: Decoder, graph: Graph, pairs: PromptPairs, corrupted: Corrupted, kept: Tensor
) -> Tensor:
    """Float32 [row, look, vocabulary] with only the edges `kept`, the others corrupted.

    `kept` is a BoolTensor [source, target] for all rows alike, or [row, source, target]; `pairs`
    and `corrupted` have the same rows.
    """
    patch = Patch(decoder, graph, corrupted, kept)
    with torch.no_grad(), edited(decoder, patch):
        embeddings = embed(decoder, pairs.clean)
        patch.embed(embeddings)
        return logits(decoder, embeddings, pairs)
