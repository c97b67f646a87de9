"""Whether a circuit carries the behaviour: the model with every other edge at its corrupted value.

    faithfulness = (m(circuit) - m(corrupted)) / (m(clean) - m(corrupted))

with means over probes, so 1 for all edges and 0 for none. Curves over circuit sizes and the areas
CPR (under the curve) and CMD (between it and 1) are those of MIB (2504.13151).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from tracking import hooks, metrics
from tracking.circuit import Circuit, by_count
from tracking.errors import BadInput
from tracking.graph import Graph
from tracking.hooks import Decoder
from tracking.metrics import Metric
from tracking.passes import Batch, Outputs, Passes, by_length, check, trimmed
from tracking.patching import patched_logits
from tracking.probes import ProbeSet
from tracking.stability import resamples

SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # MIB's, shares of all edges
KEPT_GB = 2.0  # of what a model's parts give on the corrupted prompts
NEAR = 1.05  # two sizes whose ratio is below this are as good as one


@dataclass(frozen=True)
class Faithfulness:
    """How much of the behaviour a circuit carries."""

    value: float
    low: float  # 95 % bootstrap interval over probes
    high: float
    accuracy: float  # share of probes whose top token is the right one; NaN without labels


@dataclass(frozen=True)
class Runs:
    """What a model does with only some of its edges, for several circuits."""

    clean: Tensor  # float32 [probe], the metric
    corrupted: Tensor  # float32 [probe]
    patched: Tensor  # float32 [circuit, probe]
    clean_right: Tensor  # float32 [probe], 1 where the top token is the right one
    right: Tensor  # float32 [circuit, probe]

    def faithfulness(self, circuit: int, weights: Tensor) -> Faithfulness:
        """Of the circuit at that place; `weights` [resample, probe] give the interval.

        NaN where clean and corrupted do not differ, so that there is nothing to carry; without an
        interval where they do not in a resample.
        """
        carried, whole = self.patched[circuit] - self.corrupted, self.clean - self.corrupted
        accuracy, mean = float(self.right[circuit].mean()), whole.mean()
        if float(mean.abs()) < 1e-9:
            return Faithfulness(np.nan, np.nan, np.nan, accuracy)
        value, drawn = float(carried.mean() / mean), weights @ whole  # [resample]
        if float(drawn.abs().min()) < 1e-9:
            return Faithfulness(value, np.nan, np.nan, accuracy)
        ratios = (weights @ carried) / drawn
        low, high = ratios.quantile(torch.tensor([0.025, 0.975])).tolist()
        return Faithfulness(value, low, high, accuracy)


@dataclass(frozen=True)
class Experiment:
    """A model and probes, to be run with only the edges of some circuits."""

    decoder: Decoder
    graph: Graph
    loss: Metric
    probes: ProbeSet
    batch_size: int
    kept: list[tuple[Batch, Outputs]] = field(default_factory=list)  # both ends, by batch

    @classmethod
    def of(
        cls, model: nn.Module, probes: ProbeSet, metric: str | Metric, batch_size: int = 8
    ) -> Experiment:
        """Raises `BadInput` for what `attribute` refuses too."""
        decoder, graph = Decoder.of(model), Graph.of(model)
        check(decoder, probes, batch_size)
        return cls(decoder, graph, metrics.resolve(metric), probes, batch_size)

    def run(self, circuits: Sequence[Tensor]) -> Runs:
        """All circuits, BoolTensors [source, target], on all probes; the model is as before.

        Equal circuits (small ones are often empty once pruned) are run once.
        """
        each, places = torch.stack(list(circuits)).unique(dim=0, return_inverse=True)
        runs = self._run(list(each))
        return replace(runs, patched=runs.patched[places], right=runs.right[places])

    def _run(self, circuits: Sequence[Tensor]) -> Runs:
        count, total = len(circuits), len(self.probes)
        clean, corrupted, clean_right = torch.zeros(3, total)
        patched, right = torch.zeros(2, count, total)
        dropped = [(self.graph.edges & ~edges).to(self.decoder.device) for edges in circuits]
        for number, rows in enumerate(by_length(self.probes, self.batch_size)):
            batch, outputs = self._ends(number, rows)
            clean[rows], corrupted[rows] = batch.clean_loss[0].cpu(), batch.corrupted_loss[0].cpu()
            clean_right[rows] = _right(batch.clean_logits, batch.probes)
            for place, edges in enumerate(dropped):
                each = edges.expand(len(rows), -1, -1)
                given = patched_logits(self.decoder, self.graph, batch.probes, outputs, each)
                patched[place, rows] = self.loss(given, batch.clean_logits, batch.probes).cpu()
                right[place, rows] = _right(given, batch.probes)
        return Runs(clean, corrupted, patched, clean_right, right)

    def _ends(self, number: int, rows: Tensor) -> tuple[Batch, Outputs]:
        """Both ends of a batch; kept for the next run where all batches fit into `KEPT_GB`."""
        if number < len(self.kept):
            return self.kept[number]
        with hooks.tapped(self.decoder) as taps:
            passes = Passes(self.decoder, self.graph, taps, (self.loss,))
            batch, _, outputs = passes.ends(trimmed(self.probes[rows]))
        size = sum(part.numel() for part in outputs.parts) * 4 / 1e9
        if size * len(self.probes) / len(rows) <= KEPT_GB and number == len(self.kept):
            self.kept.append((batch, outputs))
        return batch, outputs


def _right(logits: Tensor, probes: ProbeSet) -> Tensor:
    """Float32 [probe]: 1 where the top token at the first position that the metric looks at is the
    right one; NaN without labels."""
    if probes.labels is None:
        return torch.full((len(probes),), torch.nan)
    return (logits[:, 0].argmax(-1) == probes.labels[:, 0]).float().cpu()


def faithfulness(
    model: nn.Module,
    probes: ProbeSet,
    circuit: Circuit,
    metric: str | Metric = "kl",
    batch_size: int = 8,
) -> Faithfulness:
    """How faithful a circuit is to `model` on `probes`, with an interval over probes.

    Raises `BadInput` where the circuit is that of another architecture.
    """
    experiment = Experiment.of(model, probes, metric, batch_size)
    if circuit.graph != experiment.graph:
        raise BadInput(
            f"the circuit is of {circuit.graph.layers} layers x {circuit.graph.heads} heads, "
            f"the model has {experiment.graph.layers} x {experiment.graph.heads}"
        )
    return experiment.run([circuit.edges]).faithfulness(0, resamples(200, len(probes)))


@dataclass(frozen=True)
class Curve:
    """Faithfulness over circuit sizes."""

    counts: tuple[int, ...]  # edges taken, before pruning, rising; the last is all of them
    values: tuple[Faithfulness, ...]

    @property
    def sizes(self) -> np.ndarray:
        """Float [size]: shares of all edges."""
        return np.array(self.counts) / self.counts[-1]

    @property
    def cpr(self) -> float:
        """Area under the curve: large where good circuits are small."""
        return float(np.trapezoid([value.value for value in self.values], self.sizes))

    @property
    def cmd(self) -> float:
        """Area between the curve and 1: small where circuits do what the model does."""
        return float(np.trapezoid([abs(1 - value.value) for value in self.values], self.sizes))


def counts(graph: Graph) -> tuple[int, ...]:
    """The numbers of edges of MIB's circuit sizes, each at least 1, none twice."""
    total = int(graph.edges.sum())
    return tuple(sorted({max(1, round(size * total)) for size in SIZES}))


def curve(
    model: nn.Module,
    probes: ProbeSet,
    scores: Tensor,
    metric: str | Metric = "kl",
    batch_size: int = 8,
) -> Curve:
    """Faithfulness of the circuits of the top edges by |score|, `scores` [source, target]."""
    experiment = Experiment.of(model, probes, metric, batch_size)
    return curve_of(experiment, scores, resamples(200, len(probes)))


def curve_of(experiment: Experiment, scores: Tensor, weights: Tensor) -> Curve:
    """As `curve`; `weights` [resample, probe] give the intervals."""
    sizes = counts(experiment.graph)
    runs = experiment.run([by_count(experiment.graph, scores, count) for count in sizes])
    return Curve(sizes, tuple(runs.faithfulness(place, weights) for place in range(len(sizes))))


def smallest(experiment: Experiment, scores: Tensor, wanted: float, known: Curve) -> int:
    """The fewest top edges whose circuit is at least `wanted` faithful, by bisection.

    Begins between the sizes of a `known` curve and stops where two sizes are as good as one. The
    curve is taken as rising: where it is not, this is one of the places at which it crosses.
    """
    reach = [
        count
        for count, value in zip(known.counts, known.values, strict=True)
        if value.value >= wanted
    ]
    high = min(reach, default=known.counts[-1])
    low = max((count for count in known.counts if count < high), default=0)
    while high - low > 1 and high > NEAR * low:
        # three at a time, since every run begins with a clean and a corrupted pass
        middles = np.geomspace(max(low, 0.5), high, 5)[1:-1].round().astype(int)
        tried = sorted({int(middle) for middle in middles if low < middle < high})
        if not tried:
            tried = [(low + high) // 2]
        runs = experiment.run([by_count(experiment.graph, scores, count) for count in tried])
        carried = (runs.patched - runs.corrupted).mean(1) / (runs.clean - runs.corrupted).mean()
        enough = [count for count, value in zip(tried, carried.tolist(), strict=True)
                  if value >= wanted]  # fmt: skip
        high = min(enough, default=high)
        low = max((count for count in tried if count < high), default=low)
    return high
