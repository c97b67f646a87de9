"""Runs of a decoder in which chosen edges carry their corrupted value: the truth by brute force.

The prompt is the clean one. Every target reads the corrupted residual stream, and the differences
that its kept edges carry:

    x_v = corrupted stream + sum over kept edges (u -> v) of (output of u here - u's corrupted one)

so that a part without kept edges on its way out need not run: the circuit alone is computed. Its
sources' differences lie below each other in one tensor, and the streams of all targets of a layer
are one matrix product with it. Keeping all edges is the clean run, keeping none the corrupted one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tracking.model.decoder import Decoder, embed
from tracking.model.ends import Kept
from tracking.model.graph import Graph
from tracking.model.passes import logits
from tracking.model.rest import Rest
from tracking.patching.edits import edited


class Patch:
    """An `Editor` that keeps the edges `kept`, BoolTensor [source, target] for all rows alike, or
    [row, source, target].

    A target that keeps all that runs, in every row, reads the sum of all changes, and one that
    keeps nothing the corrupted stream; only the others have a stream of their `own`. Changes and
    streams are on the decoder's device, what the parts of a layer read and give on the layer's.
    """

    def __init__(self, decoder: Decoder, graph: Graph, corrupted: Kept, kept: Tensor) -> None:
        self.decoder, self.graph, self.corrupted = decoder, graph, corrupted
        self.before = corrupted.outputs
        each = kept if kept.ndim == 3 else kept[None]
        runs = each.any(2).any(0)  # [source]
        sees = graph.edge_mask.to(kept.device)
        some = each.any(1).any(0)  # [target]
        self.whole = some & (each | ~(sees & runs[:, None])).all(1).all(0)
        self.own = some & ~self.whole
        self.summed = bool(self.whole.any())
        listed = runs & (each & self.own).any(2).any(0)  # [source]: read by an `own` target
        self.runs, self.listed = runs.tolist(), listed.tolist()
        self.kept = kept[..., listed, :].transpose(-1, -2).float()  # [.., target, listed source]

        new, self.shape = self.before.embeddings.new_empty, self.before.embeddings.shape
        # a base first, so that one product adds the changes to it too
        self.changes = new(1 + sum(self.listed), *self.shape)  # output here - output corrupted
        self.filled = 1
        self.sum = torch.zeros_like(self.before.embeddings) if self.summed else None
        self.scratch = new(0)  # for streams: memory that is new is slower than the product itself

    def embed(self, embeddings: Tensor) -> None:
        """Told what `embed` writes, [row, position, width]."""
        self._add(0, embeddings.float() - self.before.embeddings)

    def heads(self, layer: int) -> list[int]:
        """The heads of a layer that run: all, if one does, where a norm stands behind them."""
        rows = self.runs[self.graph.head_rows(layer)]
        together = any(rows) and self.decoder.blocks[layer].attention_behind
        return [head for head, runs in enumerate(rows) if runs or together]

    def reads(self, layer: int) -> tuple[Tensor, ...] | None:
        if not (heads := self.heads(layer)):
            return None
        n_heads, stream = self.graph.n_heads, self.corrupted.layers[layer].stream.float()
        targets = torch.tensor([place * n_heads + head for place in range(3) for head in heads])
        targets = targets.to(stream.device)
        columns = (self.graph.attention_columns(layer).start + targets).to(self.own.device)
        weights = self.decoder.read_weights(layer)[targets]  # [target, head_dim, width]
        out = stream.new_empty(len(targets), self.shape[0] * self.shape[1], weights.shape[1])
        kept_own = columns[self.own[columns]]
        whole, own = (one[columns].to(stream.device) for one in (self.whole, self.own))
        for places, shared in ((~whole & ~own, stream), (whole, self._summed(stream))):
            if bool(places.any()):
                out[places] = self._shared_reads(layer, shared, weights[places])
        if bool(own.any()):
            # [target, position, width]
            streams = self._streams(kept_own, stream).flatten(1, 2).to(stream.device)
            read = torch.bmm(streams, weights[own].transpose(1, 2))
            out[own] = read.mul_(self.decoder.norm_rate(layer, streams))
        bias = self.decoder.read_biases(layer)
        if bias is not None:
            out += bias.view(3 * n_heads, 1, -1)[targets]
        by_read = out.unflatten(1, self.shape[:2]).chunk(3)  # [head, row, position, head_dim]
        return tuple(read.permute(1, 2, 0, 3).flatten(2) for read in by_read)

    def z(self, layer: int, z: Tensor) -> None:
        heads, rows = self.heads(layer), self.graph.head_rows(layer)
        if self.decoder.blocks[layer].attention_behind:
            changes = self.decoder.writes_changed(layer, z, self.before.z[layer])
            for row, change in zip(heads, changes.unbind(2), strict=True):
                self._add(rows.start + row, change)
            return
        before = self.before.z[layer].unflatten(-1, (self.graph.n_heads, -1))
        change = z.unflatten(-1, (len(heads), -1)) - before[:, :, heads]
        weight = self.decoder.projection(layer, "o").unflatten(1, (self.graph.n_heads, -1))
        weight = weight[:, heads]  # [width, head, head_dim]
        if self.sum is not None:
            summed = torch.nn.functional.linear(change.flatten(2), weight.flatten(1))
            self.sum += summed.to(self.sum.device)
        listed = [place for place, head in enumerate(heads) if self.listed[rows.start + head]]
        if listed:
            each = change[:, :, listed].flatten(0, 1).transpose(0, 1)  # [head, position, head_dim]
            into, weight = self._next(len(listed)), weight[:, listed].permute(1, 2, 0)
            if into.device == each.device:
                torch.bmm(each, weight, out=into)
            else:
                into.copy_(torch.bmm(each, weight))

    def mlp(self, layer: int) -> Tensor | None:
        if not self.runs[self.graph.mlp_row(layer)]:
            return None
        return self._stream(self.graph.mlp_column(layer), self.corrupted.layers[layer].mid)

    def mlp_out(self, layer: int, out: Tensor) -> None:
        self._add(self.graph.mlp_row(layer), out - self.before.mlp_outs[layer])

    def logits(self) -> Tensor:
        return self._stream(-1, self.corrupted.last_stream)

    def _add(self, row: int, change: Tensor) -> None:
        """The change of the source of a row, [row, position, width]."""
        change = change.to(self.changes.device)
        if self.runs[row] and self.sum is not None:
            self.sum += change
        if self.listed[row]:
            self._next(1)[0] = change.flatten(0, 1)

    def _next(self, count: int) -> Tensor:
        """Where the changes of the next sources go, [source, position, width]."""
        self.filled += count
        return self.changes[self.filled - count : self.filled].flatten(1, 2)

    def _summed(self, corrupted: Tensor) -> Tensor:
        return corrupted if self.sum is None else corrupted + self.sum.to(corrupted.device)

    def _stream(self, column: int, corrupted: Tensor) -> Tensor:
        """What one target reads, [row, position, width]."""
        if self.own[column]:
            columns = torch.tensor([column], device=self.own.device)
            return self._streams(columns, corrupted.float())[0].to(corrupted.device)
        return self._summed(corrupted.float()) if self.whole[column] else corrupted

    def _streams(self, columns: Tensor, corrupted: Tensor) -> Tensor:
        """What each of some targets reads, [target, row, position, width], until the next call."""
        self.changes[0] = corrupted.to(self.changes.device)
        changes = self.changes[: self.filled].flatten(2)  # [source, row, position * width]
        kept = self.kept[..., columns, : self.filled - 1]
        shares = torch.nn.functional.pad(kept, (1, 0), value=1.0)  # all of the base
        if shares.ndim == 3:
            streams = torch.bmm(shares, changes.transpose(0, 1)).transpose(0, 1)
            return streams.unflatten(2, self.shape[1:])
        size = len(columns) * corrupted.numel()
        if len(self.scratch) < size:
            self.scratch = self.changes.new_empty(size)
        streams = self.scratch[:size].view(len(columns), -1)
        torch.mm(shares, changes.flatten(1), out=streams)
        return streams.view(-1, *self.shape)

    def _shared_reads(self, layer: int, stream: Tensor, weights: Tensor) -> Tensor:
        """[target, position, head_dim] of targets that read the same stream."""
        normed = (stream * self.decoder.norm_rate(layer, stream)).flatten(0, 1)
        reads = torch.nn.functional.linear(normed, weights.flatten(0, 1))
        return reads.unflatten(1, weights.shape[:2]).transpose(0, 1)


def patched_logits(
    decoder: Decoder, graph: Graph, rest: Rest, corrupted: Kept, kept: Tensor
) -> Tensor:
    """Float32 [row, look, vocabulary] with only the edges `kept`, the others corrupted.

    `kept` is a BoolTensor [source, target] for all rows alike, or [row, source, target];
    `corrupted` is the pass on the corrupted prompts of the `rest`, row by row.
    """
    patch = Patch(decoder, graph, corrupted, kept)
    with torch.no_grad(), edited(decoder, patch):
        embeddings = embed(decoder, rest.pairs.clean)
        patch.embed(embeddings)
        past = rest.past and rest.past.read_by(patch.heads)
        return logits(decoder, embeddings, rest.pairs, past)
