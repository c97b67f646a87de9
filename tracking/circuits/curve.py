"""Faithfulness over circuit sizes, and the smallest circuit that is faithful enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from tracking.circuits.faithfulness import Experiment, Faithfulness
from tracking.circuits.top_edges import by_count
from tracking.model.graph import Graph
from tracking.model.passes import Metric
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.stability.bootstrap import resamples

SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # MIB's, shares of all edges
NEAR = 1.05  # two sizes whose ratio is below this are as good as one


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
    total = int(graph.edge_mask.sum())
    return tuple(sorted({max(1, round(size * total)) for size in SIZES}))


def curve(
    model: nn.Module,
    pairs: PromptPairs,
    scores: Tensor,
    metric: str | Metric = "kl",
    batch_size: int = 8,
) -> Curve:
    """Faithfulness of the circuits of the top edges by |score|, `scores` [source, target]."""
    experiment = Experiment.of(model, pairs, metric, batch_size)
    return curve_of(experiment, scores, resamples(200, len(pairs)))


def curve_of(experiment: Experiment, scores: Tensor, weights: Tensor) -> Curve:
    """As `curve`; `weights` [resample, pair] give the intervals."""
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
