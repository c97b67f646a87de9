"""Passes over prompt pairs: their batches, the memory that these take, and what is between ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from tracking.errors import BadInput
from tracking.model.decoder import Decoder, run
from tracking.model.graph import Graph
from tracking.model.past import Past
from tracking.model.rest import Rest, are_all, most
from tracking.model.taps import Taps
from tracking.pairs.prompt_pairs import PromptPairs, look

Metric = Callable[[Tensor, Tensor, PromptPairs], Tensor]
"""A loss [pair] of logits and clean logits, [pair, look, vocabulary] each; `attribution.metrics`
has them by name."""


def fitting(decoder: Decoder, pairs: PromptPairs, memory_gb: float) -> int:
    """How many pairs of these lengths a batch may have to stay within `memory_gb`. Raises
    `BadInput` where not even one pair fits."""
    each = bytes_each(decoder, pairs)
    count = int(memory_gb * 1e9 / each)
    if count < 1:
        raise BadInput(
            f"memory_gb is {memory_gb}; one pair of {pairs.clean.shape[1]} tokens needs "
            f"{each / 1e9:.1f} GB"
        )
    return min(count, len(pairs))


def bytes_each(decoder: Decoder, pairs: PromptPairs) -> int:
    """Bytes that attribution takes for each pair of a batch, at the most.

    Counts, per position that is run: the source differences, twice, as pairs that are done again
    have a copy of theirs, the sums over steps, and what one forward pass keeps for its backward
    pass: what the norms read, q, k, v and z (eager attention keeps its weights too), three times
    the hidden units of an MLP. No parameter has a gradient, so what other matrices read is not
    kept. Beside these
    the logits, and the scores; and keys and values of positions before those that are run, once
    for KV heads and once for query heads. Of a model on several devices it is what all take
    together.
    """
    layers, width = len(decoder.blocks), decoder.width
    heads = decoder.n_heads * decoder.head_dim
    mlp = decoder.mlp_width
    differences = (1 + layers * (decoder.n_heads + 1)) * width
    sums = layers * (3 * heads + width)
    number = torch.finfo(decoder.dtype).bits // 8
    kept = layers * (4 * 2 * width + number * (4 * heads + 3 * mlp))
    runs, before = most(decoder, pairs)
    past = layers * number * 2 * (heads + decoder.n_kv_heads * decoder.head_dim)
    look = int(pairs.supervised.sum(-1).max())
    logits = 4 * look * decoder.lm_head.out_features
    graph = decoder.graph
    scores = 2 * len(graph.sources) * len(graph.targets)
    each = 4 * (2 * differences + sums) + kept
    return runs * each + before * past + 4 * (logits + scores)


def check(decoder: Decoder, pairs: PromptPairs, batch_size: int) -> None:
    """Raise `BadInput` where the pairs do not fit the model, or its weights are not finite."""
    vocabulary = decoder.embedding.weight.shape[0]
    largest = int(torch.maximum(pairs.clean, pairs.corrupted).max())
    if largest >= vocabulary:
        raise BadInput(f"token id {largest} in the pairs; the model knows {vocabulary} tokens")
    if pairs.labels is not None and int(pairs.labels.max()) >= vocabulary:
        wrong = int(pairs.labels.max())
        raise BadInput(f"token id {wrong} in the labels; the model knows {vocabulary} tokens")
    if batch_size < 1:
        raise BadInput(f"batch_size is {batch_size}; it must be at least 1")
    for name, weight in [
        *decoder.backbone.named_parameters(),
        *decoder.lm_head.named_parameters("lm_head"),
    ]:
        if weight.device.type == "meta":
            raise BadInput(
                f"weight {name!r} is on no GPU: device_map found no room for it; take more GPUs"
            )
        if not bool(weight.detach().sum(dtype=torch.float32).isfinite()):  # one pass over it
            raise BadInput(f"weight {name!r} is not finite; nothing can be attributed")


def logits(
    decoder: Decoder, embeddings: Tensor, pairs: PromptPairs, past: Past | None = None
) -> Tensor:
    """Float32 [pair, look, vocabulary]: logits where the metric looks, and nowhere else, of a
    pass from `embeddings` [pair, position, width] that goes on from a `past`."""
    stream = run(decoder, embeddings, pairs.attention_mask, past)
    positions = look(pairs)[0]
    rows = torch.arange(len(positions), device=positions.device)[:, None]
    return decoder.logits(stream[rows, positions])


@dataclass(frozen=True)
class Outputs:
    """What the parts of a decoder give in one pass; all float32, each layer's on its device."""

    embeddings: Tensor  # [row, position, width]
    z: list[Tensor]  # by layer [row, position, head * head_dim], the input of o_proj; see `minus`
    mlp_outs: list[Tensor]  # by layer [row, position, width]

    @property
    def parts(self) -> list[Tensor]:
        """All of them in the order of the sources: embeddings, then z and MLP by layer."""
        layers = zip(self.z, self.mlp_outs, strict=True)
        return [self.embeddings, *(part for layer in layers for part in layer)]

    def minus(self, other: Outputs, decoder: Decoder) -> Outputs:
        """The difference, part by part; of what heads write, [row, position, head * width], in the
        place of z where a norm stands behind attention."""
        return Outputs(
            self.embeddings - other.embeddings,
            [
                decoder.writes_changed(layer, ours, theirs).flatten(2)
                if decoder.blocks[layer].attention_behind
                else ours - theirs
                for layer, (ours, theirs) in enumerate(zip(self.z, other.z, strict=True))
            ],
            [ours - theirs for ours, theirs in zip(self.mlp_outs, other.mlp_outs, strict=True)],
        )

    def rows(self, rows: Tensor) -> Outputs:
        """Of the pairs at `rows`."""
        return Outputs(
            self.embeddings[rows.to(self.embeddings.device)],
            [layer[rows.to(layer.device)] for layer in self.z],
            [layer[rows.to(layer.device)] for layer in self.mlp_outs],
        )

    def written_less(self, other: Outputs, decoder: Decoder) -> Written:
        """What every source writes into the stream less what it writes in `other`, heads one by
        one."""
        sizes = [1, *(decoder.n_heads + 1 for _ in self.z)]  # sources of `embed`, of each layer
        devices = [self.embeddings.device, *(layer.device for layer in self.z)]
        parts = []
        for device, group in groupby(range(len(sizes)), devices.__getitem__):
            places = list(group)
            shape = (*self.embeddings.shape[:2], sum(sizes[place] for place in places))
            part = torch.empty(*shape, decoder.width, device=device)
            each = part.split([sizes[place] for place in places], dim=2)
            for place, into in zip(places, each, strict=True):
                self._write_less(other, decoder, place - 1, into)
            parts.append(part)
        return Written(parts)

    def _write_less(self, other: Outputs, decoder: Decoder, layer: int, into: Tensor) -> None:
        """Puts what a layer writes, or `embed` (-1), less what it does in `other`, into [row,
        position, source, width]."""
        if layer < 0:
            into[:, :, 0] = self.embeddings - other.embeddings
        else:
            into[:, :, :-1] = decoder.writes_changed(layer, self.z[layer], other.z[layer])
            into[:, :, -1] = self.mlp_outs[layer] - other.mlp_outs[layer]


@dataclass(frozen=True)
class Written:
    """What every source writes: float32 [row, position, source, width], which is most of what an
    attribution takes, in parts that follow each other along `source`, each on the device of its
    layers; one part, where the model is on one device."""

    parts: list[Tensor]

    def rows(self, rows: Tensor) -> Written:
        """Of the pairs at `rows`."""
        return Written([part[rows.to(part.device)] for part in self.parts])

    def along(self, seen: int, directions: Tensor) -> Tensor:
        """The products of `directions` [row, position, direction, width] with what the first `seen`
        sources write: [row, position, source, direction], on the device of `directions`.

        One batched product over rows and positions a part, for which nothing large is copied.
        """
        products, begin = [], 0
        for part in self.parts:
            if begin >= seen:
                break
            written = part[:, :, : seen - begin].flatten(0, 1)
            there = directions.to(part.device).flatten(0, 1).transpose(1, 2)
            products.append(torch.bmm(written, there).to(directions.device))
            begin += part.shape[2]
        product = products[0] if len(products) == 1 else torch.cat(products, dim=1)
        return product.unflatten(0, directions.shape[:2])


@dataclass(frozen=True)
class Batch:
    """A batch of pairs, and the metric at both ends of its path."""

    pairs: PromptPairs
    rest: Rest  # the positions of them that passes run
    clean: Tensor  # [pair, position, width], embeddings
    corrupted: Tensor  # [pair, position, width]
    clean_logits: Tensor  # float32 [pair, look, vocabulary]
    clean_loss: Tensor  # [metric, pair]
    corrupted_loss: Tensor  # [metric, pair]

    def at(self, place: Tensor) -> Tensor:
        """Embeddings [pair, position, width] at `place` [pair] of each pair's path."""
        # in less than float32 the places themselves would be rounded, away from their weights
        between = torch.lerp(self.corrupted.float(), self.clean.float(), place[:, None, None])
        return between.to(self.clean)

    def rows(self, rows: Tensor) -> Batch:
        """The batch of the pairs at `rows`; itself where these are all, in order."""
        if are_all(rows, len(self.pairs)):
            return self
        pairs = self.pairs[rows]
        return Batch(
            pairs,
            self.rest.rows(rows),
            self.clean[rows],
            self.corrupted[rows],
            self.clean_logits[rows, : look(pairs)[0].shape[1]],
            self.clean_loss[:, rows],
            self.corrupted_loss[:, rows],
        )


@dataclass(frozen=True)
class Passes:
    """Runs batches of pairs through a decoder that is tapped."""

    decoder: Decoder
    graph: Graph
    taps: Taps
    losses: tuple[Metric, ...]

    def measured(self, given: Tensor, clean_logits: Tensor, pairs: PromptPairs) -> Tensor:
        """Every metric of logits [pair, look, vocabulary]: [metric, pair]."""
        return torch.stack([loss(given, clean_logits, pairs) for loss in self.losses])

    def value(self, batch: Batch, place: Tensor) -> Tensor:
        """The first metric [pair] at `place` [pair] on the path."""
        with torch.no_grad():
            given = logits(self.decoder, batch.at(place), batch.rest.pairs, batch.rest.past)
            return self.losses[0](given, batch.clean_logits, batch.pairs)

    def gradients(
        self, batch: Batch, embeddings: Tensor, inputs: Callable
    ) -> list[tuple[Tensor | None, ...]]:
        """For every metric, summed over pairs, its gradients at `inputs(taps)`, places seen in a
        pass from `embeddings`; None where it does not depend on one. One forward pass for all."""
        with torch.enable_grad():
            begin = embeddings.detach().requires_grad_()
            given = logits(self.decoder, begin, batch.rest.pairs, batch.rest.past)
            sums = self.measured(given, batch.clean_logits, batch.pairs).sum(1)
            if not sums.requires_grad:
                raise BadInput(
                    "the metric has no gradient; it must be differentiable in the logits"
                )
            seen, last = inputs(self.taps), len(sums) - 1
            return [
                torch.autograd.grad(loss, seen, retain_graph=i < last, allow_unused=True)
                for i, loss in enumerate(sums)
            ]
