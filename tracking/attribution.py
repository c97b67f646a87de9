"""The score of every edge of a decoder, in place on the Hugging Face model (EAP, EAP-IG).

Conventions, those of the reference implementation (Hanna et al. 2403.17806):

- score(u -> v) = sum over positions of (corrupted - clean output of u) . gradient of the metric at
  what v reads, averaged over the path. Metrics are losses, so a positive score says: corrupting
  this edge raises the loss.
- v reads the residual stream *before* its layer norm; the gradient includes the norm. Every head
  has reads of its own for q, k and v, K and V repeated per query head.
- The path of `eap-ig` runs over the input embeddings, corrupted + a (clean - corrupted), and the
  row of `embed` sums to metric(corrupted) - metric(clean) where the integral is good.

For each batch of probes:

1. one clean and one corrupted pass; their difference is expanded once to what every source writes,
   `differences` [probe, position, source, width];
2. one forward and backward pass per step of the path, with gradients g to what the heads' q, k
   and v projections give, to what the MLPs read and to what the last norm reads, nothing else;
3. q, k and v go back through their RMS norm y = w x r, r = (mean(x^2) + eps)^-1/2 by
       J' W' g = r W* g - x r^3/d (W* x . g),    W* = W diag(w),
   so the first part is summed over steps in each head's own head_dim columns (r g) and expanded to
   the stream once at the end; the second needs only `differences . x`, shared by all heads of a
   layer, and the scalar W* x . g, where W* x r is the projection's own output less its bias;
4. one matrix product per layer gives the scores.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from tracking import hooks, metrics
from tracking.errors import BadInput
from tracking.graph import Graph
from tracking.hooks import Decoder, LayerTaps, Taps
from tracking.metrics import Metric
from tracking.probes import ProbeSet
from tracking.quadrature import Sweep, even

METHODS = ("eap", "eap-ig", "clean-corrupted")
TOLERANCE = 0.05  # completeness error of a probe, over the mean difference, that is done again


@dataclass(frozen=True)
class Scores:
    """The scores of all edges on a set of probes."""

    graph: Graph
    edges: Tensor  # float32 [source, target], signed mean over probes; 0 where there is no edge
    strength: Tensor  # float32 [source, target], mean over probes of the absolute value
    clean: Tensor  # float32 [probe], the metric of the clean prompts
    corrupted: Tensor  # float32 [probe]
    embed_sum: Tensor  # float32 [probe], the sum of `embed`'s row
    method: str
    metric: str
    steps: float  # gradients taken per probe, on average
    per_probe: Tensor | None = None  # float32 [probe, source, target], kept on request

    def edge(self, source: str, target: str) -> float:
        """The score of one edge, as in `scores.edge("L5H1", "L7H2.q")`."""
        return float(self.edges[self.graph.index(f"{source}->{target}")])

    @property
    def gap(self) -> float:
        """Completeness gap: how far `embed`'s rows are from metric(corrupted) - metric(clean).

        Summed over probes before dividing, both as absolute values, so that errors of opposite
        sign do not cancel. It speaks of the integral only where the method has one.
        """
        difference = self.corrupted - self.clean
        error = (self.embed_sum - difference).abs().sum()
        return float(error / difference.abs().sum().clamp(min=1e-12))

    @property
    def heads(self) -> pd.DataFrame:
        """One row a head: signed and absolute sums of the scores of its edges.

        `inflow` and `outflow` sum |score| over the edges into its q, k and v and out of it,
        `effect` is the signed sum out of it (its node score), `strength` sums mean |score| out.
        """
        graph, rows = self.graph, self.graph.head_sources
        into = self.edges.abs().sum(0)  # [target]
        inflow = [
            into[graph.attention_columns(layer)].view(3, graph.heads).sum(0)
            for layer in range(graph.layers)
        ]
        frame = {
            "head": graph.head_names,
            "layer": np.repeat(np.arange(graph.layers), graph.heads),
            "inflow": torch.cat(inflow).numpy(),
            "outflow": self.edges[rows].abs().sum(1).numpy(),
            "effect": self.edges[rows].sum(1).numpy(),
            "strength": self.strength[rows].sum(1).numpy(),
        }
        return pd.DataFrame(frame)


def attribute(
    model: nn.Module,
    probes: ProbeSet,
    method: str = "eap-ig",
    metric: str | Metric = "kl",
    steps: int = 5,
    quadrature: str = "left",
    batch_size: int = 8,
    per_probe: bool = False,
    max_steps: int | None = None,
    label: str = "",
) -> Scores:
    """Score every edge of `model` on `probes`; the model is as before afterwards, bit for bit.

    `method`: `eap-ig` (mean of gradients along the path over input embeddings, `steps` of them
    placed by `quadrature`), `eap` (the gradient at the clean prompt), `clean-corrupted` (the mean
    of the gradients at both ends). With `quadrature="adaptive"` probes whose integral is not
    complete are done again with twice the steps, up to `max_steps` (default 16 x `steps`).
    `batch_size` is in probes. Scores are on the CPU, in float32. With a `label` a progress bar
    counts the probes, on a terminal.

    Raises `BadInput` for unknown names, unsupported models, token ids outside the vocabulary,
    weights that are not finite and metrics of the wrong shape.
    """
    decoder, graph = Decoder.of(model), Graph.of(model)
    loss = metrics.resolve(metric)
    plan = Plan(method, quadrature, steps, 16 * steps if max_steps is None else max_steps)
    _check(decoder, probes, batch_size)
    total = torch.zeros(len(graph.sources), len(graph.targets), dtype=torch.float64)
    strength = torch.zeros_like(total)
    kept = torch.zeros(len(probes), *total.shape) if per_probe else None
    clean, corrupted, embed_sum, taken = torch.zeros(4, len(probes))
    quiet = not (label and sys.stderr.isatty())
    bar = tqdm(total=len(probes), desc=label, unit="probe", leave=False, disable=quiet)
    with hooks.tapped(decoder) as taps, bar:
        engine = _Engine(decoder, graph, taps, loss)
        for rows in by_length(probes, batch_size):
            batch = engine.prepare(trimmed(probes[rows]))
            scores, taken[rows] = engine.scores(batch, plan)  # [probe, source, target], [probe]
            total += scores.sum(0)
            strength += scores.abs().sum(0)
            clean[rows], corrupted[rows] = batch.clean_loss.cpu(), batch.corrupted_loss.cpu()
            embed_sum[rows] = scores[:, 0].sum(-1)
            if kept is not None:
                kept[rows] = scores
            bar.update(len(rows))
    return Scores(
        graph=graph,
        edges=(total / len(probes)).float(),
        strength=(strength / len(probes)).float(),
        clean=clean,
        corrupted=corrupted,
        embed_sum=embed_sum,
        method=method,
        metric=metric if isinstance(metric, str) else getattr(metric, "__name__", "custom"),
        steps=float(taken.mean()),
        per_probe=kept,
    )


@dataclass(frozen=True)
class Plan:
    """Which gradients along the path are taken."""

    method: str
    quadrature: str
    steps: int
    max_steps: int

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise BadInput(f"unknown method {self.method!r}; one of {', '.join(METHODS)}")
        if not self.adaptive:
            self.places()

    @property
    def adaptive(self) -> bool:
        return self.method == "eap-ig" and self.quadrature == "adaptive"

    def places(self) -> tuple[Tensor, Tensor]:
        """The same places for all probes and their weights, float [step] each."""
        if self.method == "eap":
            return torch.ones(1), torch.ones(1)
        if self.method == "clean-corrupted":
            return torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.5])
        return even(self.quadrature, self.steps)


def by_length(probes: ProbeSet, batch_size: int) -> Iterator[Tensor]:
    """Indices of batches of probes of like length, so that little padding is computed."""
    order = probes.attention_mask.sum(-1).argsort(stable=True)
    yield from order.split(batch_size)


def trimmed(probes: ProbeSet) -> ProbeSet:
    """The same probes without the columns in which all are padding."""
    columns = probes.attention_mask.any(0).nonzero()[:, 0]
    kept = slice(int(columns[0]), int(columns[-1]) + 1)
    return ProbeSet(
        probes.clean[:, kept],
        probes.corrupted[:, kept],
        probes.attention_mask[:, kept],
        probes.labels,
        probes.supervised[:, kept],
    )


def _check(decoder: Decoder, probes: ProbeSet, batch_size: int) -> None:
    vocabulary = decoder.embedding.weight.shape[0]
    largest = int(torch.maximum(probes.clean, probes.corrupted).max())
    if largest >= vocabulary:
        raise BadInput(f"token id {largest} in the probes; the model knows {vocabulary} tokens")
    if batch_size < 1:
        raise BadInput(f"batch_size is {batch_size}; it must be at least 1")
    for name, weight in decoder.backbone.named_parameters():
        if not bool(weight.isfinite().all()):
            raise BadInput(f"weight {name!r} is not finite; nothing can be attributed")


@dataclass(frozen=True)
class _Batch:
    """A batch of probes and all that is computed once for it."""

    probes: ProbeSet
    mask: Tensor  # [probe, position]
    clean: Tensor  # [probe, position, width], embeddings
    corrupted: Tensor  # [probe, position, width]
    differences: Tensor  # float32 [probe, position, source, width], corrupted - clean
    clean_logits: Tensor  # float32 [probe, look, vocabulary]
    clean_loss: Tensor  # [probe]
    corrupted_loss: Tensor  # [probe]

    def at(self, place: Tensor) -> Tensor:
        """Embeddings [probe, position, width] at `place` [probe] of each probe's path."""
        return torch.lerp(self.corrupted, self.clean, place[:, None, None].to(self.clean))

    def rows(self, rows: Tensor) -> _Batch:
        """The batch of the probes at `rows`; itself where these are all."""
        if len(rows) == len(self.probes):
            return self
        tensors = (getattr(self, item.name) for item in fields(self)[1:])
        return _Batch(self.probes[rows], *(tensor[rows] for tensor in tensors))


@dataclass(frozen=True)
class _Sums:
    """What is summed along the path, the steps' weights multiplied in; all float32."""

    reads: list[Tensor]  # by layer [probe, position, 3 * head, head_dim]: r g
    mlps: list[Tensor]  # by layer [probe, position, width]: gradient at what the MLP reads
    logits: Tensor  # [probe, position, width]
    edges: Tensor  # [probe, source, target]: the second part of the norm's gradient


@dataclass(frozen=True)
class _Engine:
    """The passes over one batch of probes, on a decoder that is tapped."""

    decoder: Decoder
    graph: Graph
    taps: Taps
    loss: Metric

    def prepare(self, probes: ProbeSet) -> _Batch:
        """The clean and the corrupted pass."""
        probes = probes.to(self.decoder.device)
        mask = probes.attention_mask
        with torch.no_grad():
            clean = hooks.embed(self.decoder, probes.clean)
            clean_logits = self.logits(clean, probes)
            clean_taps = [(tap.values, tap.mlp_out) for tap in self.taps.layers]
            corrupted = hooks.embed(self.decoder, probes.corrupted)
            corrupted_logits = self.logits(corrupted, probes)
            shape = (*mask.shape, len(self.graph.sources), self.decoder.width)
            differences = torch.empty(shape, device=mask.device)
            differences[:, :, 0] = corrupted.float() - clean.float()
            for layer, (values, mlp_out) in enumerate(clean_taps):
                tap = self.taps.layers[layer]
                change = (tap.values.float() - values.float()).unflatten(-1, (self.graph.heads, -1))
                differences[:, :, self.graph.head_rows(layer)] = torch.einsum(
                    "bphe,hed->bphd", change, self.decoder.write_weights(layer)
                )
                differences[:, :, self.graph.mlp_row(layer)] = tap.mlp_out.float() - mlp_out.float()
            return _Batch(
                probes=probes,
                mask=mask,
                clean=clean,
                corrupted=corrupted,
                differences=differences,
                clean_logits=clean_logits,
                clean_loss=self.loss(clean_logits, clean_logits, probes),
                corrupted_loss=self.loss(corrupted_logits, clean_logits, probes),
            )

    def logits(self, embeddings: Tensor, probes: ProbeSet) -> Tensor:
        """Float32 [probe, look, vocabulary]: logits where the metric looks, and nowhere else."""
        stream = hooks.run(self.decoder, embeddings, probes.attention_mask)
        positions = metrics.look(probes)[0]
        rows = torch.arange(len(positions), device=positions.device)[:, None]
        return self.decoder.lm_head(stream[rows, positions]).float()

    def integrate(self, batch: _Batch, places: Tensor, weights: Tensor) -> Tensor:
        """Scores [probe, source, target]; `places` and `weights` are [step, probe]."""
        sums = self.zeros(batch)
        for place, weight in zip(places, weights, strict=True):
            self.add_step(batch, sums, place, weight)
        return self.finish(batch, sums)

    def scores(self, batch: _Batch, plan: Plan) -> tuple[Tensor, Tensor]:
        """Scores [probe, source, target] by `plan` and steps taken [probe], on the CPU."""
        if plan.adaptive:
            scores, taken = self.adapt(batch, plan)
        else:
            taken = torch.full((len(batch.probes),), len(plan.places()[0]))
            places, weights = (column.to(batch.mask.device) for column in plan.places())
            each = (-1, len(batch.probes))
            scores = self.integrate(
                batch, places[:, None].expand(each), weights[:, None].expand(each)
            )
        return scores.cpu(), taken.float().cpu()

    def adapt(self, batch: _Batch, plan: Plan) -> tuple[Tensor, Tensor]:
        """As `scores`, with steps placed where each probe's metric moves.

        Probes whose completeness error is above `TOLERANCE` of the batch's mean difference are done
        again with twice the steps, up to `plan.max_steps`.
        """
        difference = batch.corrupted_loss - batch.clean_loss
        sweep = Sweep.between(batch.corrupted_loss, batch.clean_loss)
        steps, rows = plan.steps, torch.arange(len(batch.probes), device=batch.mask.device)
        scores, taken = batch.differences.new_zeros(0), torch.zeros_like(rows)
        while len(rows) and steps <= max(plan.max_steps, plan.steps):
            some = batch.rows(rows)
            sweep = sweep.refined(partial(self.value, some), steps)
            part = self.integrate(some, *sweep.steps())
            scores = part if steps == plan.steps else scores.index_copy(0, rows, part)
            taken[rows] += steps
            error = (part[:, 0].sum(-1) - difference[rows]).abs()
            open_rows = error > TOLERANCE * difference.abs().mean()
            rows, sweep = rows[open_rows], sweep.rows(open_rows)
            steps *= 2
        return scores, taken

    def value(self, batch: _Batch, place: Tensor) -> Tensor:
        """The metric [probe] at `place` [probe] on the path."""
        with torch.no_grad():
            logits = self.logits(batch.at(place), batch.probes)
            return self.loss(logits, batch.clean_logits, batch.probes)

    def zeros(self, batch: _Batch) -> _Sums:
        graph, (probes, positions) = self.graph, batch.mask.shape
        new = batch.differences.new_zeros
        stream = (probes, positions, self.decoder.width)
        reads = (probes, positions, 3 * graph.heads, self.decoder.head_dim)
        return _Sums(
            reads=[new(reads) for _ in range(graph.layers)],
            mlps=[new(stream) for _ in range(graph.layers)],
            logits=new(stream),
            edges=new(probes, len(graph.sources), len(graph.targets)),
        )

    def add_step(self, batch: _Batch, sums: _Sums, place: Tensor, weight: Tensor) -> None:
        """One forward and backward pass at `place` [probe] on the path, added to `sums` times
        `weight` [probe]."""
        with torch.enable_grad():
            embeddings = batch.at(place).requires_grad_()
            logits = self.logits(embeddings, batch.probes)
            loss = self.loss(logits, batch.clean_logits, batch.probes).sum()
            taps = [t for tap in self.taps.layers for t in (*tap.reads, tap.mlp_stream)]
            gradients = torch.autograd.grad(loss, [*taps, self.taps.logits_stream])
        each = weight[:, None, None]
        for layer, tap in enumerate(self.taps.layers):
            *reads, mlp = gradients[4 * layer : 4 * layer + 4]
            sums.mlps[layer].addcmul_(mlp, each)
            self.add_reads(batch, sums, layer, tap, reads, each)
        sums.logits.addcmul_(gradients[-1], each)

    def add_reads(
        self,
        batch: _Batch,
        sums: _Sums,
        layer: int,
        tap: LayerTaps,
        gradients: list[Tensor],
        each: Tensor,
    ) -> None:
        """The gradients at a layer's q, k and v, taken back through the layer's norm; `each` are
        the probes' weights, [probe, 1, 1]."""
        graph, norm = self.graph, self.decoder.layers[layer].input_layernorm
        stream = tap.stream.detach().float()  # [probe, position, width]
        rate = (stream.square().mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt()
        products = self.decoder.unbiased_reads(layer, tap, stream * rate)  # [b, p, 3 head * dim]
        gradient = torch.cat(gradients, dim=-1).float() * each
        heads = (3 * graph.heads, self.decoder.head_dim)
        inner = (products * gradient).unflatten(-1, heads).sum(-1)  # [probe, position, 3 * head]
        sums.reads[layer].addcmul_(gradient.unflatten(-1, heads), rate[..., None])
        seen = graph.seen_by_attention(layer)
        along = torch.einsum("bpsd,bpd->bps", batch.differences[:, :, :seen], stream)
        second = torch.einsum("bps,bpt->bst", along, inner * (rate.square() / stream.shape[-1]))
        sums.edges[:, :seen, graph.attention_columns(layer)] -= second

    def finish(self, batch: _Batch, sums: _Sums) -> Tensor:
        """The products of all source differences with all sums: [probe, source, target]."""
        graph, edges, differences = self.graph, sums.edges, batch.differences
        for layer in range(graph.layers):
            seen = graph.seen_by_attention(layer)
            weights = self.decoder.read_weights(layer)  # [3 * head, head_dim, width]
            reads = torch.einsum("bpte,ted->bptd", sums.reads[layer], weights)
            edges[:, :seen, graph.attention_columns(layer)] += torch.einsum(
                "bpsd,bptd->bst", differences[:, :, :seen], reads
            )
            seen = graph.seen_by_mlp(layer)
            edges[:, :seen, graph.mlp_column(layer)] = torch.einsum(
                "bpsd,bpd->bs", differences[:, :, :seen], sums.mlps[layer]
            )
        edges[:, :, -1] = torch.einsum("bpsd,bpd->bs", differences, sums.logits)
        return edges
