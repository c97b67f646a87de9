"""The integrals over the path, one batch of pairs at a time: for edges, and for nodes alone.

Both give `over(places, weights)`: the scores of gradients taken at these places of the path, their
first row `embed`'s, whose sum tells how complete the integral is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from tracking.model.decoder import Decoder
from tracking.model.graph import Graph
from tracking.model.passes import Batch, Outputs, Passes, Written
from tracking.model.rest import are_all
from tracking.model.taps import LayerTaps, Taps
from tracking.patching.edits import replaced


@dataclass(frozen=True)
class _Sums:
    """What is summed along the path, the steps' weights multiplied in; all float32."""

    reads: list[Tensor]  # by layer [pair, position, 3 * head, head_dim]: r g
    edges: Tensor  # [pair, source, target]: all but what comes of `reads`


@dataclass(frozen=True)
class EdgeIntegral:
    """Scores [metric, pair, source, target] of all edges."""

    passes: Passes
    batch: Batch
    differences: Written  # corrupted - clean

    @property
    def decoder(self) -> Decoder:
        return self.passes.decoder

    @property
    def graph(self) -> Graph:
        return self.passes.graph

    def rows(self, rows: Tensor) -> EdgeIntegral:
        """The integral of the pairs at `rows`; itself where these are all."""
        if are_all(rows, len(self.batch.pairs)):
            return self
        return EdgeIntegral(self.passes, self.batch.rows(rows), self.differences.rows(rows))

    def over(self, places: Tensor, weights: Tensor) -> Tensor:
        """Float32 [metric, pair, source, target]; `places` and `weights` are [step, pair]."""
        sums = self.zeros()
        for place, weight in zip(places, weights, strict=True):
            self.add(sums, self.batch.at(place), weight)
        return self.finish(sums)

    def over_outputs(self, clean: Outputs, corrupted: Outputs, steps: int) -> Tensor:
        """As `over`, with the path over each part's output in turn, on the clean prompts: the
        embeddings, then each layer's heads and its MLP (`eap-ig-activations`).

        As in the reference, all paths count alike, places are k/m for k = 1 ... m, and while the
        embeddings are on their path nothing is counted at what layer 0's heads read.
        """
        sums, embeddings = self.zeros(), self.batch.clean
        share = 1 / (steps * (1 + 2 * self.graph.n_layers))
        weight = torch.full((len(self.batch.pairs),), share, device=embeddings.device)
        places = (torch.arange(1, steps + 1) / steps).tolist()
        for place in places:
            self.add(sums, torch.lerp(self.batch.corrupted, embeddings, place), weight)
        for of_metric in sums:
            of_metric.reads[0].zero_()
            of_metric.edges[:, :, self.graph.attention_columns(0)] = 0
        for layer in range(self.graph.n_layers):
            for part, begin, end in (
                ("z", corrupted.z[layer], clean.z[layer]),
                ("mlp_out", corrupted.mlp_outs[layer], clean.mlp_outs[layer]),
            ):
                for place in places:
                    output = torch.lerp(begin, end, place).to(embeddings.dtype)
                    with replaced(self.decoder, layer, part, output):
                        self.add(sums, embeddings, weight)
        return self.finish(sums)

    def zeros(self) -> list[_Sums]:
        """Empty sums, one for every metric."""
        graph, (pairs, positions) = self.graph, self.batch.clean.shape[:2]
        reads = (pairs, positions, 3 * graph.n_heads, self.decoder.head_dim)
        edges = (pairs, len(graph.sources), len(graph.targets))
        devices = [self.decoder.device_of(layer) for layer in range(graph.n_layers)]
        return [
            _Sums(
                reads=[torch.zeros(reads, device=device) for device in devices],
                edges=torch.zeros(edges, device=self.decoder.device),
            )
            for _ in self.passes.losses
        ]

    def add(self, sums: list[_Sums], embeddings: Tensor, weight: Tensor) -> None:
        """One forward and backward pass, added to `sums` times `weight` [pair]."""
        self.passes.taps.outputs = False
        by_metric = self.passes.gradients(self.batch, embeddings, _read_by_targets)
        each = weight[:, None, None]
        for of_metric, gradients in zip(sums, by_metric, strict=True):
            for layer, tap in enumerate(self.passes.taps.layers):
                *reads, mlp = gradients[4 * layer : 4 * layer + 4]
                self.add_layer(of_metric, layer, tap, (reads, mlp), each)
            if gradients[-1] is not None:
                gradient = gradients[-1][:, :, None].float()
                along = self.differences.along(len(self.graph.sources), gradient)
                along = along.sum(1)[:, :, 0].to(each.device)
                of_metric.edges[:, :, -1] += along * each[:, 0]
        self.passes.taps.clear()

    def add_layer(
        self,
        sums: _Sums,
        layer: int,
        tap: LayerTaps,
        gradients: tuple[Sequence[Tensor | None], Tensor | None],
        each: Tensor,
    ) -> None:
        """Adds what one layer reads: `gradients` at its q, k and v [pair, position, head *
        head_dim], which go back through the layer's norm, and at what its MLP reads [pair,
        position, width]; `each` [pair, 1, 1] are the weights."""
        graph, home = self.graph, sums.edges.device
        reads, mlp = gradients
        stream = tap.stream.detach().float()  # [pair, position, width]
        each = each.to(stream.device)
        mlp = torch.zeros_like(stream) if mlp is None else mlp.float()
        # one product for both, since it is the differences that take time to walk through
        seen, columns = graph.seen_by_mlp(layer), graph.mlp_column(layer)
        along = self.differences.along(seen, torch.stack([stream, mlp], dim=2))
        sums.edges[:, :seen, columns] += (along[..., 1].sum(1) * each[:, 0]).to(home)
        rate = self.decoder.norm_rate(layer, stream)
        inner = self.add_reads(sums.reads[layer], layer, reads, stream * rate, rate * each)
        inner *= rate.square() * (each / stream.shape[-1])
        seen, columns = graph.seen_by_attention(layer), graph.attention_columns(layer)
        product = along[:, :, :seen, 0].transpose(1, 2) @ inner
        sums.edges[:, :seen, columns] -= product.to(home)

    def add_reads(
        self,
        sums: Tensor,
        layer: int,
        gradients: Sequence[Tensor | None],
        normed: Tensor,
        weights: Tensor,
    ) -> Tensor:
        """Adds the gradients at q, k and v to `sums` [pair, position, 3 * head, head_dim] times
        `weights` [pair, position, 1]; gives their products with q, k and v themselves, without
        their biases, [pair, position, 3 * head]."""
        inner, heads = [], (self.graph.n_heads, self.decoder.head_dim)
        unbiased = self.decoder.unbiased_reads(layer, normed)
        for total, gradient, read in zip(sums.chunk(3, dim=2), gradients, unbiased, strict=True):
            if gradient is None:  # nothing that the metric depends on goes through these heads
                return normed.new_zeros(sums.shape[:3])
            by_head = gradient.float().unflatten(-1, heads)
            total.addcmul_(by_head, weights[..., None])
            grouped = by_head.unflatten(2, (read.shape[2], -1))  # [.., (KV) head, repeat, head_dim]
            inner.append((grouped * read[:, :, :, None]).sum(-1).flatten(2))
        return torch.cat(inner, dim=-1)

    def finish(self, sums: list[_Sums]) -> Tensor:
        """The products of all source differences with all sums: [metric, pair, source, target]."""
        return torch.stack([self.product(of_metric) for of_metric in sums])

    def product(self, sums: _Sums) -> Tensor:
        """The same of one metric: [pair, source, target]."""
        graph, edges = self.graph, sums.edges
        for layer in range(graph.n_layers):
            seen, columns = graph.seen_by_attention(layer), graph.attention_columns(layer)
            into = edges[:, :seen, columns].chunk(3, dim=-1)  # q, k, v: one at a time saves memory
            reads = sums.reads[layer].flatten(0, 1).transpose(0, 1)  # [3 * head, row, head_dim]
            weights = self.decoder.read_weights(layer)  # [3 * head, head_dim, width]
            for part, read, weight in zip(into, reads.chunk(3), weights.chunk(3), strict=True):
                streams = torch.bmm(read, weight).transpose(0, 1)  # [row, head, width]
                streams = streams.unflatten(0, self.batch.clean.shape[:2])
                part += self.differences.along(seen, streams).sum(1).to(part.device)
        return edges


@dataclass(frozen=True)
class NodeIntegral:
    """Scores [metric, pair, source, 1] of all nodes: each the sum of its outgoing edges, at a
    fraction of their cost, since a gradient at a node's own output is all it takes."""

    passes: Passes
    batch: Batch
    differences: Outputs  # corrupted - clean

    def rows(self, rows: Tensor) -> NodeIntegral:
        """The integral of the pairs at `rows`; itself where these are all."""
        if are_all(rows, len(self.batch.pairs)):
            return self
        return NodeIntegral(self.passes, self.batch.rows(rows), self.differences.rows(rows))

    def over(self, places: Tensor, weights: Tensor) -> Tensor:
        """Float32 [metric, pair, source, 1]; `places` and `weights` are [step, pair]."""
        shape = (len(self.passes.losses), places.shape[1], len(self.passes.graph.sources))
        scores = torch.zeros(shape, device=self.batch.clean.device)
        for place, weight in zip(places, weights, strict=True):
            at = self.batch.at(place)
            by_metric = self.passes.gradients(self.batch, at, self.sources)
            for of_metric, gradients in zip(scores, by_metric, strict=True):
                of_metric += weight[:, None] * self.product(gradients)
        return scores[..., None]

    def product(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """The products of what sources write with gradients there: [pair, source]."""
        nodes, device = [], self.batch.clean.device
        for place, (change, gradient) in enumerate(
            zip(self.differences.parts, gradients, strict=True)
        ):
            heads = self.passes.graph.n_heads if place % 2 else 1  # heads stand at odd places
            by_node = change.unflatten(-1, (heads, -1))  # [pair, position, node, feature]
            if gradient is None:
                nodes.append(torch.zeros(len(by_node), heads, device=device))
                continue
            # behind a norm all heads' writes have one gradient, that of their sum; that of `embed`
            # may be on the first layer's device
            at_node = gradient.to(change.device).unflatten(-1, (-1, by_node.shape[-1]))
            nodes.append((by_node * at_node).sum((1, 3)).to(device))
        return torch.cat(nodes, dim=1)

    def sources(self, taps: Taps) -> list[Tensor]:
        """Where the parts of `differences` were seen in a pass."""
        # what the first layer reads is what `embed` writes
        places = [taps.layers[0].stream]
        for block, tap in zip(self.passes.decoder.blocks, taps.layers, strict=True):
            places += [tap.attended if block.attention_behind else tap.z, tap.mlp_out]
        return places


def _read_by_targets(taps: Taps) -> list[Tensor | GradientEdge]:
    layers = [place for tap in taps.layers for place in (*tap.reads, tap.mlp_stream)]
    return [*layers, taps.logits_stream]
