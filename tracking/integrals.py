"""The integrals over the path, one batch of probes at a time: for edges, and for nodes alone.

Both give `over(places, weights)`: the scores of gradients taken at these places of the path, their
first row `embed`'s, whose sum tells how complete the integral is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tracking import hooks
from tracking.graph import Graph
from tracking.hooks import Decoder, LayerTaps, Taps
from tracking.passes import Batch, Outputs, Passes


@dataclass(frozen=True)
class _Sums:
    """What is summed along the path, the steps' weights multiplied in; all float32."""

    reads: list[Tensor]  # by layer [probe, position, 3 * head, head_dim]: r g
    mlps: list[Tensor]  # by layer [probe, position, width]: gradient at what the MLP reads
    logits: Tensor  # [probe, position, width]
    edges: Tensor  # [probe, source, target]: the second part of the norm's gradient


@dataclass(frozen=True)
class EdgeIntegral:
    """Scores [metric, probe, source, target] of all edges."""

    passes: Passes
    batch: Batch
    differences: Tensor  # float32 [probe, position, source, width], corrupted - clean

    @property
    def decoder(self) -> Decoder:
        return self.passes.decoder

    @property
    def graph(self) -> Graph:
        return self.passes.graph

    def rows(self, rows: Tensor) -> EdgeIntegral:
        """The integral of the probes at `rows`; itself where these are all."""
        if len(rows) == len(self.batch.probes):
            return self
        return EdgeIntegral(self.passes, self.batch.rows(rows), self.differences[rows])

    def over(self, places: Tensor, weights: Tensor) -> Tensor:
        """Float32 [metric, probe, source, target]; `places` and `weights` are [step, probe]."""
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
        share = 1 / (steps * (1 + 2 * self.graph.layers))
        weight = torch.full((len(self.batch.probes),), share, device=embeddings.device)
        places = (torch.arange(1, steps + 1) / steps).tolist()
        for place in places:
            self.add(sums, torch.lerp(self.batch.corrupted, embeddings, place), weight)
        for of_metric in sums:
            of_metric.reads[0].zero_()
            of_metric.edges[:, :, self.graph.attention_columns(0)] = 0
        for layer in range(self.graph.layers):
            for part, begin, end in (
                ("values", corrupted.values[layer], clean.values[layer]),
                ("mlp_out", corrupted.mlp_outs[layer], clean.mlp_outs[layer]),
            ):
                for place in places:
                    output = torch.lerp(begin, end, place).to(embeddings)
                    with hooks.replaced(self.decoder, layer, part, output):
                        self.add(sums, embeddings, weight)
        return self.finish(sums)

    def zeros(self) -> list[_Sums]:
        """Empty sums, one for every metric."""
        graph, (probes, positions) = self.graph, self.batch.probes.clean.shape
        new = self.differences.new_zeros
        stream = (probes, positions, self.decoder.width)
        reads = (probes, positions, 3 * graph.heads, self.decoder.head_dim)
        return [
            _Sums(
                reads=[new(reads) for _ in range(graph.layers)],
                mlps=[new(stream) for _ in range(graph.layers)],
                logits=new(stream),
                edges=new(probes, len(graph.sources), len(graph.targets)),
            )
            for _ in self.passes.losses
        ]

    def add(self, sums: list[_Sums], embeddings: Tensor, weight: Tensor) -> None:
        """One forward and backward pass, added to `sums` times `weight` [probe]."""
        self.passes.taps.outputs = False
        found = self.passes.gradients(self.batch, embeddings, _read_by_targets)
        each = weight[:, None, None]
        for of_metric, gradients in zip(sums, found, strict=True):
            for layer, tap in enumerate(self.passes.taps.layers):
                *reads, mlp = gradients[4 * layer : 4 * layer + 4]
                of_metric.mlps[layer].addcmul_(mlp, each)
                self.add_reads(of_metric, layer, tap, torch.cat(reads, dim=-1).float(), each)
            of_metric.logits.addcmul_(gradients[-1], each)
        self.passes.taps.clear()

    def add_reads(
        self, sums: _Sums, layer: int, tap: LayerTaps, gradient: Tensor, each: Tensor
    ) -> None:
        """Takes `gradient` [probe, position, 3 * head * head_dim] at a layer's q, k and v back
        through the layer's norm; `each` [probe, 1, 1] are the weights."""
        graph, norm = self.graph, self.decoder.layers[layer].input_layernorm
        stream = tap.stream.detach().float()  # [probe, position, width]
        rate = (stream.square().mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt()
        heads = (3 * graph.heads, self.decoder.head_dim)
        weighted = (rate * each)[..., None]  # [probe, position, 1, 1]
        sums.reads[layer].addcmul_(gradient.unflatten(-1, heads), weighted)
        products = self.decoder.unbiased_reads(layer, tap, stream * rate).mul_(gradient)
        inner = products.unflatten(-1, heads).sum(-1)  # [probe, position, 3 * head]
        inner *= rate.square() * (each / stream.shape[-1])
        seen = graph.seen_by_attention(layer)
        along = self.along(seen, stream[:, :, None])[:, :, 0]  # [probe, position, source]
        sums.edges[:, :seen, graph.attention_columns(layer)] -= along.transpose(1, 2) @ inner

    def along(self, seen: int, directions: Tensor) -> Tensor:
        """The products of `directions` [probe, position, direction, width] with the differences of
        the first `seen` sources: [probe, position, direction, source].

        One batched product over probes and positions, for which nothing large is copied.
        """
        differences = self.differences[:, :, :seen].flatten(0, 1).transpose(1, 2)
        product = torch.bmm(directions.flatten(0, 1), differences)
        return product.unflatten(0, directions.shape[:2])

    def finish(self, sums: list[_Sums]) -> Tensor:
        """The products of all source differences with all sums: [metric, probe, source, target]."""
        return torch.stack([self.product(of_metric) for of_metric in sums])

    def product(self, sums: _Sums) -> Tensor:
        """The same of one metric: [probe, source, target]."""
        graph, edges = self.graph, sums.edges
        for layer in range(graph.layers):
            seen, columns = graph.seen_by_attention(layer), graph.attention_columns(layer)
            into = edges[:, :seen, columns].chunk(3, dim=-1)  # q, k, v: one at a time saves memory
            reads = sums.reads[layer].flatten(0, 1).transpose(0, 1)  # [3 * head, row, head_dim]
            weights = self.decoder.read_weights(layer)  # [3 * head, head_dim, width]
            for part, read, weight in zip(into, reads.chunk(3), weights.chunk(3), strict=True):
                streams = torch.bmm(read, weight).transpose(0, 1)  # [row, head, width]
                streams = streams.unflatten(0, self.batch.probes.clean.shape)
                part += self.along(seen, streams).sum(1).transpose(1, 2)
            seen = graph.seen_by_mlp(layer)
            product = self.along(seen, sums.mlps[layer][:, :, None]).sum((1, 2))
            edges[:, :seen, graph.mlp_column(layer)] = product
        edges[:, :, -1] = self.along(len(graph.sources), sums.logits[:, :, None]).sum((1, 2))
        return edges


@dataclass(frozen=True)
class NodeIntegral:
    """Scores [metric, probe, source, 1] of all nodes: each the sum of its outgoing edges, at a
    fraction of their cost, since a gradient at a node's own output is all it takes."""

    passes: Passes
    batch: Batch
    differences: Outputs  # corrupted - clean

    def rows(self, rows: Tensor) -> NodeIntegral:
        """The integral of the probes at `rows`; itself where these are all."""
        if len(rows) == len(self.batch.probes):
            return self
        return NodeIntegral(self.passes, self.batch.rows(rows), self.differences.rows(rows))

    def over(self, places: Tensor, weights: Tensor) -> Tensor:
        """Float32 [metric, probe, source, 1]; `places` and `weights` are [step, probe]."""
        shape = (len(self.passes.losses), places.shape[1], len(self.passes.graph.sources))
        scores = self.differences.embeddings.new_zeros(shape)
        for place, weight in zip(places, weights, strict=True):
            at = self.batch.at(place)
            found = self.passes.gradients(self.batch, at, _written_by_sources)
            for of_metric, gradients in zip(scores, found, strict=True):
                of_metric += weight[:, None] * self.product(gradients)
        return scores[..., None]

    def product(self, gradients: tuple[Tensor, ...]) -> Tensor:
        """The products of what sources write with gradients there: [probe, source]."""
        graph, (embedding, *parts) = self.passes.graph, gradients
        nodes = [(embedding * self.differences.embeddings).sum((1, 2))[:, None]]
        for layer in range(graph.layers):
            values, mlp = parts[2 * layer : 2 * layer + 2]
            heads = (values * self.differences.values[layer]).sum(1)  # [probe, head * head_dim]
            nodes.append(heads.unflatten(-1, (graph.heads, -1)).sum(-1))
            nodes.append((mlp * self.differences.mlp_outs[layer]).sum((1, 2))[:, None])
        return torch.cat(nodes, dim=1)


def _read_by_targets(taps: Taps) -> list[Tensor]:
    layers = [tensor for tap in taps.layers for tensor in (*tap.reads, tap.mlp_stream)]
    return [*layers, taps.logits_stream]


def _written_by_sources(taps: Taps) -> list[Tensor]:
    # what the first layer reads is what `embed` writes
    layers = [tensor for tap in taps.layers for tensor in (tap.values, tap.mlp_out)]
    return [taps.layers[0].stream, *layers]
