"""The score of every edge of a decoder, in place on the Hugging Face model (EAP, EAP-IG).

Conventions, those of the reference implementation (Hanna et al. 2403.17806):

- score(u -> v) = sum over positions of (corrupted - clean output of u) . gradient of the metric at
  what v reads, averaged over the path. Metrics are losses, so a positive score says: corrupting
  this edge raises the loss.
- v reads the residual stream *before* its layer norm; the gradient includes the norm. Every head
  has reads of its own for q, k and v, K and V repeated per query head.
- The path of `eap-ig` runs over the input embeddings, corrupted + a (clean - corrupted), and the
  row of `embed` sums to metric(corrupted) - metric(clean) where the integral is good.

For each batch of probes (`tracking.integrals`):

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
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
from torch import Tensor, nn
from tqdm.auto import tqdm

from tracking import hooks, metrics
from tracking.circuit import Circuit, by_count, by_share, grown
from tracking.errors import BadInput
from tracking.faithfulness import Experiment, curve_of, smallest
from tracking.graph import Graph
from tracking.hooks import Decoder
from tracking.importance import importance
from tracking.integrals import EdgeIntegral, NodeIntegral
from tracking.metrics import Metric
from tracking.passes import Batch, Passes, by_length, check, fitting, mean_difference, trimmed
from tracking.patching import exact
from tracking.probes import ProbeSet
from tracking.quadrature import Sweep, even
from tracking.stability import resamples

METHODS = ("eap", "eap-ig", "eap-ig-activations", "clean-corrupted", "exact", "node-ig")
GAP = 0.05  # the completeness gap that adaptive steps are to stay below
KNOTS = 3  # intervals that the forward-only sweep cuts for two adaptive steps
TOLERANCE = 2 * GAP  # of one probe over the mean difference; the errors of most are far smaller


@dataclass(frozen=True)
class Scores:
    """The scores of all edges on a set of probes.

    `node-ig` scores no edges: its matrices have one column, each node's sum over all targets.
    """

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
    loss: str | Metric = ""  # the metric itself

    def edge(self, source: str, target: str) -> float:
        """The score of one edge, as in `scores.edge("L5H1", "L7H2.q")`."""
        if self.edges.shape[1] == 1:
            raise BadInput("node-ig scores nodes, not edges; see `scores.nodes`, or use eap-ig")
        return float(self.edges[self.graph.index(f"{source}->{target}")])

    @property
    def nodes(self) -> Tensor:
        """Float32 [source]: every node's signed score, the sum of its outgoing edges."""
        return self.edges.sum(1)

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
        """One row a head: its flows (`tracking.importance`), `effect` (the signed sum of the scores
        of its outgoing edges, its node score) and `strength` (the sum of their mean |score|).

        After `node-ig` there are no flows.
        """
        graph, rows = self.graph, self.graph.head_sources
        flows = pd.DataFrame({"head": graph.head_names})
        if self.edges.shape[1] > 1:
            flows = importance(graph, self.edges)
        return flows.assign(
            layer=np.repeat(np.arange(graph.layers), graph.heads),
            effect=self.edges[rows].sum(1).numpy(),
            strength=self.strength[rows].sum(1).numpy(),
        )

    def circuit(
        self,
        share: float | None = None,
        edges: int | None = None,
        rank: str = "signed",
        greedy: bool = False,
        faithfulness: float | None = None,
        model: nn.Module | None = None,
        probes: ProbeSet | None = None,
    ) -> Circuit:
        """The circuit of the top edges, dead ends pruned: `edges` of them, as many as hold `share`
        of the sum of |score|, or the fewest that reach a `faithfulness` of `model` on `probes`.

        Edges are ranked by |signed mean| or, `absolute`, by mean |score| over probes. `greedy`
        grows so many `edges` from `logits`. Raises `BadInput` unless one of the sizes is given.
        """
        if self.edges.shape[1] == 1:
            raise BadInput("node-ig scores nodes, not edges: no circuit; use eap-ig")
        if rank not in ("signed", "absolute"):
            raise BadInput(f"rank is {rank!r}; it must be signed or absolute")
        ranked = self.edges if rank == "signed" else self.strength
        sizes = [size for size in (share, edges, faithfulness) if size is not None]
        if len(sizes) != 1 or (greedy and edges is None):
            raise BadInput("give one size: share=0.9, edges=5000 (greedy or not), faithfulness=0.8")
        if share is not None:
            return Circuit(self.graph, by_share(self.graph, ranked, share))
        if faithfulness is not None:
            if model is None or probes is None:
                raise BadInput("a circuit by faithfulness needs model and probes too")
            experiment = Experiment.of(model, probes, self.loss)
            if experiment.graph != self.graph:
                raise BadInput("the scores are of a model of another shape than this one")
            known = curve_of(experiment, ranked, resamples(1, len(probes)))
            edges = smallest(experiment, ranked, faithfulness, known)
        assert edges is not None
        choose = grown if greedy else by_count
        return Circuit(self.graph, choose(self.graph, ranked, edges))


def attribute(
    model: nn.Module,
    probes: ProbeSet,
    method: str = "eap-ig",
    metric: str | Metric = "kl",
    steps: int = 5,
    quadrature: str = "midpoint",
    batch_size: int = 8,
    per_probe: bool = False,
    max_steps: int | None = None,
    memory_gb: float | None = None,
    split_over_ranks: bool = False,
    label: str = "",
) -> Scores:
    """Score every edge of `model` on `probes`; the model is as before afterwards, bit for bit.

    `method`:

    - `eap-ig`: the mean of gradients along the path over input embeddings, `steps` of them placed
      by `quadrature`. With `adaptive`, probes whose integral is not complete are done again with
      twice the steps, up to `max_steps` (default 16 x `steps`).
    - `eap`: the gradient at the clean prompt. `clean-corrupted`: the mean of those at both ends.
    - `eap-ig-activations`: the path runs over each part's output in turn, `steps` gradients each.
    - `exact`: every edge corrupted by itself, one pass each: for small models.
    - `node-ig`: as `eap-ig` for whole nodes, at a fraction of the cost; see `Scores.nodes`.

    `batch_size` is in probes; `memory_gb` chooses one that fits. With `split_over_ranks` every
    process of `torch.distributed` takes its share of the probes and all get the whole result.
    Scores are on the CPU, in float32. With a `label` a progress bar counts the probes, on a
    terminal. Raises `BadInput` for unknown names, unsupported models, token ids outside the
    vocabulary, weights that are not finite and metrics of the wrong shape.
    """
    return attribute_all(
        model,
        probes,
        [metric],
        method=method,
        steps=steps,
        quadrature=quadrature,
        batch_size=batch_size,
        per_probe=per_probe,
        max_steps=max_steps,
        memory_gb=memory_gb,
        split_over_ranks=split_over_ranks,
        label=label,
    )[0]


def attribute_all(
    model: nn.Module,
    probes: ProbeSet,
    by: Sequence[str | Metric],
    method: str = "eap-ig",
    steps: int = 5,
    quadrature: str = "midpoint",
    batch_size: int = 8,
    per_probe: bool = False,
    max_steps: int | None = None,
    memory_gb: float | None = None,
    split_over_ranks: bool = False,
    label: str = "",
) -> list[Scores]:
    """As `attribute`, by several metrics from the same forward passes; `adaptive` steps lie where
    the first of them moves."""
    decoder, graph = Decoder.of(model), Graph.of(model)
    losses = tuple(metrics.resolve(metric) for metric in by)
    plan = Plan(method, quadrature, steps, 16 * steps if max_steps is None else max_steps)
    if memory_gb is not None:
        batch_size = fitting(decoder, probes, memory_gb)
    check(decoder, probes, batch_size)
    if plan.adaptive:
        scale = mean_difference(decoder, graph, losses[0], probes, batch_size)
        plan = replace(plan, tolerance=TOLERANCE * scale)
    work = _Work(decoder, graph, losses, probes, batch_size, per_probe, split_over_ranks, label)
    while True:
        tallies = zip(work.tallied(plan), by, strict=True)
        found = [tally.scores(graph, method, metric) for tally, metric in tallies]
        if not plan.adaptive or found[0].gap <= GAP or 2 * plan.steps > plan.max_steps:
            return found
        plan = replace(plan, steps=2 * plan.steps)


@dataclass(frozen=True)
class Tally:
    """What batches add up to."""

    total: Tensor  # float64 [source, target]
    strength: Tensor  # float64 [source, target]
    ends: Tensor  # float32 [4, probe]: clean and corrupted metric, sum of embed's row, steps
    per_probe: Tensor | None  # float32 [probe, source, target]

    @classmethod
    def zeros(cls, probes: int, shape: tuple[int, int], per_probe: bool) -> Tally:
        total = torch.zeros(shape, dtype=torch.float64)
        kept = torch.zeros(probes, *shape) if per_probe else None
        return cls(total, torch.zeros_like(total), torch.zeros(4, probes), kept)

    def add(
        self, rows: Tensor, scores: Tensor, clean: Tensor, corrupted: Tensor, taken: Tensor
    ) -> None:
        """A batch's scores [probe, source, target], metric at both ends and steps [probe], of the
        probes at `rows`."""
        scores = scores.cpu()
        self.total.add_(scores.sum(0))
        self.strength.add_(scores.abs().sum(0))
        sums = scores[:, 0].sum(-1)
        ends = clean.cpu(), corrupted.cpu(), sums, taken.float().cpu()
        self.ends[:, rows] = torch.stack(ends)
        if self.per_probe is not None:
            self.per_probe[rows] = scores

    def scores(self, graph: Graph, method: str, metric: str | Metric) -> Scores:
        """What it all comes to."""
        clean, corrupted, embed_sum, taken = self.ends
        return Scores(
            graph=graph,
            edges=(self.total / len(clean)).float(),
            strength=(self.strength / len(clean)).float(),
            clean=clean,
            corrupted=corrupted,
            embed_sum=embed_sum,
            method=method,
            metric=metric if isinstance(metric, str) else getattr(metric, "__name__", "custom"),
            steps=float(taken.mean()),
            per_probe=self.per_probe,
            loss=metric,
        )

    def sum_over_ranks(self, device: torch.device) -> None:
        """Add up what the processes have; `device` is one that their backend can send."""
        for tensor in (self.total, self.strength, self.ends, self.per_probe):
            if tensor is not None:
                sent = tensor.to(device)
                dist.all_reduce(sent)
                tensor.copy_(sent)


@dataclass(frozen=True)
class Plan:
    """Which gradients are taken."""

    method: str
    quadrature: str
    steps: int
    max_steps: int
    tolerance: float = 0.0  # completeness error above which an adaptive probe is done again

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise BadInput(f"unknown method {self.method!r}; one of {', '.join(METHODS)}")
        if self.steps < 1:
            raise BadInput(f"steps is {self.steps}; a path needs at least 1")
        if self.quadrature != "adaptive":  # refuses an unknown one
            even(self.quadrature, self.steps)

    @property
    def adaptive(self) -> bool:
        return self.quadrature == "adaptive" and self.method in ("eap-ig", "node-ig")

    def places(self) -> tuple[Tensor, Tensor]:
        """The same places for all probes and their weights, float [step] each."""
        if self.method == "eap":
            return torch.ones(1), torch.ones(1)
        if self.method == "clean-corrupted":
            return torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.5])
        return even(self.quadrature, self.steps)

    def integrate(self, integral: EdgeIntegral | NodeIntegral) -> tuple[Tensor, Tensor]:
        """Scores [metric, probe, source, target] of a batch, and steps taken [probe]."""
        if self.adaptive:
            return self._adapted(integral)
        probes, device = len(integral.batch.probes), integral.batch.clean.device
        each = [column.to(device)[:, None].expand(-1, probes) for column in self.places()]
        return integral.over(*each), torch.full((probes,), len(each[0]))

    def _adapted(self, integral: EdgeIntegral | NodeIntegral) -> tuple[Tensor, Tensor]:
        """With steps placed where each probe's metric moves.

        Probes whose completeness error is above `tolerance` are done again with twice the steps,
        up to `max_steps`.
        """
        batch = integral.batch
        first, last = batch.corrupted_loss[0], batch.clean_loss[0]
        difference, sweep = first - last, Sweep.between(first, last)
        steps, rows = self.steps, torch.arange(len(difference), device=difference.device)
        scores, taken = difference, torch.zeros_like(rows)
        while len(rows) and steps <= max(self.max_steps, self.steps):
            some = integral.rows(rows)
            sweep = sweep.refined(partial(some.passes.value, some.batch), KNOTS * steps // 2)
            part = some.over(*sweep.steps(steps))
            scores = part if steps == self.steps else scores.index_copy(1, rows, part)
            taken[rows] += steps
            error = (part[0, :, 0].sum(-1) - difference[rows]).abs()
            unfinished = error > self.tolerance
            rows, sweep = rows[unfinished], sweep.rows(unfinished)
            steps *= 2
        return scores, taken


@dataclass(frozen=True)
class _Work:
    """All batches of all probes."""

    decoder: Decoder
    graph: Graph
    losses: tuple[Metric, ...]
    probes: ProbeSet
    batch_size: int
    per_probe: bool
    split_over_ranks: bool
    label: str

    def tallied(self, plan: Plan) -> list[Tally]:
        """The sums over all batches, one for every metric."""
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if self.split_over_ranks else (0, 1)
        shape = (
            len(self.graph.sources),
            1 if plan.method == "node-ig" else len(self.graph.targets),
        )
        tallies = [Tally.zeros(len(self.probes), shape, self.per_probe) for _ in self.losses]
        quiet = not (self.label and sys.stderr.isatty())
        total = len(self.probes) // ranks
        with tqdm(total=total, desc=self.label, unit="probe", leave=False, disable=quiet) as bar:
            for rows in list(by_length(self.probes, self.batch_size))[rank::ranks]:
                scores, batch, taken = self.batch_scores(plan, trimmed(self.probes[rows]))
                ends = zip(batch.clean_loss, batch.corrupted_loss, strict=True)
                for tally, of_metric, (clean, corrupted) in zip(tallies, scores, ends, strict=True):
                    tally.add(rows, of_metric, clean, corrupted, taken)
                bar.update(len(rows))
        if ranks > 1:
            for tally in tallies:
                tally.sum_over_ranks(self.decoder.device)
        return tallies

    def batch_scores(self, plan: Plan, probes: ProbeSet) -> tuple[Tensor, Batch, Tensor]:
        """Scores [metric, probe, source, target], the batch, and steps taken [probe]."""
        with hooks.tapped(self.decoder) as taps:
            passes = Passes(self.decoder, self.graph, taps, self.losses)
            batch, clean, corrupted = passes.ends(probes)
            taken = torch.full((len(probes),), plan.steps)
            if plan.method == "eap-ig-activations":
                written = corrupted.minus(clean).written(self.decoder, self.graph)
                edges = EdgeIntegral(passes, batch, written)
                return edges.over_outputs(clean, corrupted, plan.steps), batch, taken
            if plan.method != "exact":
                change = corrupted.minus(clean)
                del clean, corrupted  # what is left of them is needed no more
                if plan.method == "node-ig":
                    integral = NodeIntegral(passes, batch, change)
                else:
                    integral = EdgeIntegral(passes, batch, change.written(self.decoder, self.graph))
                    del change
                scores, taken = plan.integrate(integral)
                return scores, batch, taken
        count = 32 * len(probes)
        scores = [
            exact(self.decoder, self.graph, batch.probes, loss, rows=count) for loss in self.losses
        ]
        return torch.stack(scores), batch, taken
