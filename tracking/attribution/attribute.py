"""The score of every edge of a decoder, in place on the Hugging Face model (EAP, EAP-IG).

Conventions, those of the reference implementation (Hanna et al. 2403.17806):

- score(u -> v) = sum over positions of (corrupted - clean output of u) . gradient of the metric at
  what v reads, averaged over the path. Metrics are losses, so a positive score says: corrupting
  this edge raises the loss.
- v reads the residual stream *before* its layer norm; the gradient includes the norm. Every head
  has reads of its own for q, k and v, K and V repeated per query head.
- The path of `eap-ig` runs over the input embeddings, corrupted + a (clean - corrupted), and the
  row of `embed` sums to metric(corrupted) - metric(clean) where the integral is good.

For each batch of pairs (`tracking.attribution.integrals`):

1. one clean and one corrupted pass, from where the prompts of the batch begin to differ
   (`tracking.model.rest`; all later passes too); their difference is expanded once to what every
   source writes, `differences` [pair, position, source, width];
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

import logging
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from tracking.attribution import metrics
from tracking.attribution.exact import exact
from tracking.attribution.integrals import EdgeIntegral, NodeIntegral
from tracking.attribution.plan import GAP, TOLERANCE, Plan
from tracking.attribution.scores import Scores
from tracking.model.decoder import Decoder
from tracking.model.ends import AllEnds
from tracking.model.graph import Graph
from tracking.model.passes import Batch, Metric, Passes, fitting
from tracking.model.taps import tapped
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.ranks import Peers

log = logging.getLogger(__name__)


def attribute(
    model: nn.Module,
    pairs: PromptPairs,
    method: str = "eap-ig",
    metric: str | Metric = "kl",
    steps: int = 5,
    quadrature: str = "midpoint",
    batch_size: int = 8,
    per_pair: bool = False,
    max_steps: int | None = None,
    memory_gb: float | None = None,
    split_over_ranks: bool = False,
    label: str = "",
) -> Scores:
    """Score every edge of `model` on `pairs`; the model is as before afterwards, bit for bit.

    `method`:

    - `eap-ig`: the mean of gradients along the path over input embeddings, `steps` of them placed
      by `quadrature`. With `adaptive`, pairs whose integral is not complete are done again with
      twice the steps, up to `max_steps` (default 16 x `steps`).
    - `eap`: the gradient at the clean prompt. `clean-corrupted`: the mean of those at both ends.
    - `eap-ig-activations`: the path runs over each part's output in turn, `steps` gradients each.
    - `exact`: every edge corrupted by itself, one pass each: for small models.
    - `node-ig`: as `eap-ig` for whole nodes, at a fraction of the cost; see `Scores.nodes`.

    `batch_size` is in pairs; `memory_gb` chooses one that fits. With `split_over_ranks` every
    process of `torch.distributed` takes its share of the batches and all get the whole result.
    Scores are on the CPU, in float32. With a `label` a progress bar counts the pairs, on a
    terminal. Raises `BadInput` for unknown names, unsupported models, token ids outside the
    vocabulary, weights that are not finite and metrics of the wrong shape.
    """
    return attribute_all(
        model,
        pairs,
        [metric],
        method=method,
        steps=steps,
        quadrature=quadrature,
        batch_size=batch_size,
        per_pair=per_pair,
        max_steps=max_steps,
        memory_gb=memory_gb,
        split_over_ranks=split_over_ranks,
        label=label,
    )[0]


def attribute_all(
    model: nn.Module,
    pairs: PromptPairs,
    by: Sequence[str | Metric],
    method: str = "eap-ig",
    steps: int = 5,
    quadrature: str = "midpoint",
    batch_size: int = 8,
    per_pair: bool = False,
    max_steps: int | None = None,
    memory_gb: float | None = None,
    split_over_ranks: bool = False,
    label: str = "",
) -> list[Scores]:
    """As `attribute`, by several metrics from the same forward passes; `adaptive` steps lie where
    the first of them moves."""
    decoder = Decoder.of(model)
    plan = Plan(method, quadrature, steps, 16 * steps if max_steps is None else max_steps)
    if memory_gb is not None:
        batch_size = fitting(decoder, pairs, memory_gb)
    peers = Peers.of_world() if split_over_ranks else None
    with peers.together() if peers else nullcontext():
        ends = AllEnds.of(decoder, pairs, batch_size, peers=peers)
        return attributed(ends, by, plan, per_pair, label)


def attributed(
    ends: AllEnds,
    by: Sequence[str | Metric],
    plan: Plan,
    per_pair: bool,
    label: str = "",
) -> list[Scores]:
    """As `attribute_all`, of pairs that were checked, from both ends of theirs."""
    graph, losses = ends.decoder.graph, tuple(metrics.resolve(metric) for metric in by)
    if plan.adaptive:
        clean, corrupted = ends.losses(losses[:1])
        scale = float((corrupted - clean).abs().mean())
        plan = replace(plan, tolerance=TOLERANCE * scale)
    work = _Work(ends, losses, per_pair, label)
    while True:
        tallies = zip(work.tallied(plan), by, strict=True)
        scores = [tally.scores(graph, plan.method, metric) for tally, metric in tallies]
        if not plan.adaptive or scores[0].gap <= GAP or 2 * plan.steps > plan.max_steps:
            if plan.method == "eap-ig" and not plan.adaptive and scores[0].gap > GAP:
                log.warning(
                    "the integral of %d steps is not complete (gap %.2f): take more steps, or "
                    "quadrature='adaptive'",
                    *(plan.steps, scores[0].gap),
                )
            return scores
        plan = replace(plan, steps=2 * plan.steps)


@dataclass(frozen=True)
class Tally:
    """What batches add up to."""

    total: Tensor  # float64 [source, target]
    strength: Tensor  # float64 [source, target]
    ends: Tensor  # float32 [4, pair]: clean and corrupted metric, sum of embed's row, steps
    per_pair: Tensor | None  # float32 [pair, source, target]

    @classmethod
    def zeros(cls, pairs: int, shape: tuple[int, int], per_pair: bool) -> Tally:
        total = torch.zeros(shape, dtype=torch.float64)
        kept = torch.zeros(pairs, *shape) if per_pair else None
        return cls(total, torch.zeros_like(total), torch.zeros(4, pairs), kept)

    def add(
        self, rows: Tensor, scores: Tensor, clean: Tensor, corrupted: Tensor, steps: Tensor
    ) -> None:
        """A batch's scores [pair, source, target], metric at both ends and steps [pair], of the
        pairs at `rows`."""
        self.total.add_(scores.sum(0))
        self.strength.add_(scores.abs().sum(0))
        sums = scores[:, 0].sum(-1)
        self.ends[:, rows] = torch.stack([clean, corrupted, sums, steps.float()])
        if self.per_pair is not None:
            self.per_pair[rows] = scores

    def scores(self, graph: Graph, method: str, metric: str | Metric) -> Scores:
        """What it all comes to."""
        clean, corrupted, embed_sum, steps = self.ends
        return Scores(
            graph=graph,
            edges=(self.total / len(clean)).float(),
            strength=(self.strength / len(clean)).float(),
            clean=clean,
            corrupted=corrupted,
            embed_sum=embed_sum,
            method=method,
            metric=metric if isinstance(metric, str) else getattr(metric, "__name__", "custom"),
            steps=float(steps.mean()),
            per_pair=self.per_pair,
            loss=metric,
        )


@dataclass(frozen=True)
class _Work:
    """All batches of all pairs."""

    ends: AllEnds
    losses: tuple[Metric, ...]
    per_pair: bool
    label: str

    def tallied(self, plan: Plan) -> list[Tally]:
        """The sums over all batches, one for every metric."""
        graph, pairs = self.ends.decoder.graph, len(self.ends.pairs)
        shape = len(graph.sources), 1 if plan.method == "node-ig" else len(graph.targets)
        tallies = [Tally.zeros(pairs, shape, self.per_pair) for _ in self.losses]
        quiet = not (self.label and sys.stderr.isatty())
        with tqdm(total=pairs, desc=self.label, unit="pair", leave=False, disable=quiet) as bar:
            for rows, of_batch in self.ends.each(partial(self.of_batch, plan)):
                *by_metric, steps = of_batch
                for tally, scores, clean, corrupted in zip(tallies, *by_metric, strict=True):
                    tally.add(rows, scores, clean, corrupted, steps)
                bar.update(len(rows))
        return tallies

    def of_batch(self, plan: Plan, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """On the CPU: its scores [metric, pair, source, target], the metrics of its clean and its
        corrupted prompts [metric, pair], and the steps taken [pair]."""
        scores, batch, steps = self.batch_scores(plan, number)
        return scores.cpu(), batch.clean_loss.cpu(), batch.corrupted_loss.cpu(), steps.cpu()

    def batch_scores(self, plan: Plan, number: int) -> tuple[Tensor, Batch, Tensor]:
        """Of a batch: scores [metric, pair, source, target], its path, and steps taken [pair]."""
        ends, decoder = self.ends[number], self.ends.decoder
        batch, steps = ends.batch(self.losses), torch.full((len(ends.pairs),), plan.steps)
        if plan.method == "exact":
            each = [
                exact(decoder, decoder.graph, ends, loss, rows=32 * len(ends.pairs))
                for loss in self.losses
            ]
            return torch.stack(each), batch, steps
        clean, corrupted = ends.clean.outputs, ends.corrupted.outputs
        del ends  # where it is not kept, what is left of it is needed no more
        with tapped(decoder) as taps:
            passes = Passes(decoder, decoder.graph, taps, self.losses)
            if plan.method == "eap-ig-activations":
                written = corrupted.written_less(clean, decoder)
                edges = EdgeIntegral(passes, batch, written)
                return edges.over_outputs(clean, corrupted, plan.steps), batch, steps
            if plan.method == "node-ig":
                integral = NodeIntegral(passes, batch, corrupted.minus(clean, decoder))
            else:
                written = corrupted.written_less(clean, decoder)
                integral = EdgeIntegral(passes, batch, written)
                del written
            del clean, corrupted
            scores, steps = plan.integrate(integral)
            return scores, batch, steps
