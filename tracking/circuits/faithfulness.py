"""Whether a circuit carries the behaviour: the model with every other edge at its corrupted value.

    faithfulness = (m(circuit) - m(corrupted)) / (m(clean) - m(corrupted))

with means over pairs, so 1 for all edges and 0 for none. Curves over circuit sizes and the areas
CPR (under the curve) and CMD (between it and 1) are those of MIB (2504.13151).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor, nn

from tracking.attribution import metrics
from tracking.circuits.circuit import Circuit, prune
from tracking.errors import BadInput
from tracking.model.decoder import Decoder
from tracking.model.ends import MEMORY_GB, AllEnds, Ends
from tracking.model.graph import Graph
from tracking.model.passes import Metric
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.patching.edges import patched_logits
from tracking.stability.bootstrap import resamples


@dataclass(frozen=True)
class Faithfulness:
    """How much of the behaviour a circuit carries."""

    value: float
    low: float  # 95 % bootstrap interval over pairs
    high: float
    accuracy: float  # share of pairs whose top token is the right one; NaN without labels


@dataclass(frozen=True)
class Runs:
    """What a model does with only some of its edges, for several circuits."""

    clean: Tensor  # float32 [pair], the metric
    corrupted: Tensor  # float32 [pair]
    patched: Tensor  # float32 [circuit, pair]
    clean_right: Tensor  # float32 [pair], 1 where the top token is the right one
    right: Tensor  # float32 [circuit, pair]

    def faithfulness(self, circuit: int, weights: Tensor) -> Faithfulness:
        """Of the circuit at that place; `weights` [resample, pair] give the interval.

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
class Compared:
    """What the patched runs of a batch are held against."""

    clean_logits: Tensor  # float32 [pair, look, vocabulary]
    clean: Tensor  # float32 [pair], the metric
    corrupted: Tensor  # float32 [pair]


@dataclass(frozen=True)
class Experiment:
    """A model and pairs, to be run with only the edges of some circuits."""

    ends: AllEnds
    loss: Metric
    compared: dict[int, Compared] = field(default_factory=dict)  # by batch
    known: dict[bytes, tuple[Tensor, Tensor]] = field(default_factory=dict)  # by circuit's digest

    @classmethod
    def of(
        cls, model: nn.Module, pairs: PromptPairs, metric: str | Metric, batch_size: int = 8
    ) -> Experiment:
        """Raises `BadInput` for what `attribute` refuses too."""
        ends = AllEnds.of(Decoder.of(model), pairs, batch_size, MEMORY_GB)
        return cls(ends, metrics.resolve(metric))

    @property
    def graph(self) -> Graph:
        """Whose edges circuits are of."""
        return self.ends.decoder.graph

    @property
    def pairs(self) -> PromptPairs:
        """All of them."""
        return self.ends.pairs

    def among(self, places: Tensor) -> Experiment:
        """The same with the pairs at `places`, LongTensor [pair]."""
        return Experiment(self.ends.among(places), self.loss)

    def run(self, circuits: Sequence[Tensor]) -> Runs:
        """All circuits, BoolTensors [source, target], on all pairs; the model is as before.

        A circuit that was run before is not run again (small ones are often empty once pruned).
        """
        pruned = list(prune(self.graph, torch.stack(list(circuits))))
        digests = [sha256(edges.numpy().tobytes()).digest() for edges in pruned]
        new = {one: edges for one, edges in zip(digests, pruned, strict=True)
               if one not in self.known}  # fmt: skip
        runs = self._run(list(new.values()))
        self.known.update(zip(new, zip(runs.patched, runs.right, strict=True), strict=True))
        patched, right = (
            torch.stack(each) for each in zip(*map(self.known.get, digests), strict=True)
        )
        return replace(runs, patched=patched, right=right)

    def _run(self, circuits: Sequence[Tensor]) -> Runs:
        kept = [edges.to(self.ends.decoder.device) for edges in circuits]
        count, total = len(circuits), len(self.pairs)
        clean, corrupted, clean_right = torch.zeros(3, total)
        patched, right = torch.zeros(2, count, total)
        for rows, runs in self.ends.each(lambda number: self._run_batch(number, kept)):
            clean[rows], corrupted[rows], clean_right[rows] = (
                runs.clean, runs.corrupted, runs.clean_right,
            )  # fmt: skip
            patched[:, rows], right[:, rows] = runs.patched, runs.right
        return Runs(clean, corrupted, patched, clean_right, right)

    def _run_batch(self, number: int, circuits: Sequence[Tensor]) -> Runs:
        decoder, ends = self.ends.decoder, self.ends[number]
        against = self._compared(number, ends)
        patched, right = torch.zeros(2, len(circuits), len(ends.pairs))
        for place, edges in enumerate(circuits):
            given = patched_logits(decoder, self.graph, ends.rest, ends.corrupted, edges)
            patched[place] = self.loss(given, against.clean_logits, ends.pairs).cpu()
            right[place] = _right(given, ends.pairs)
        clean_right = _right(against.clean_logits, ends.pairs)
        return Runs(against.clean.cpu(), against.corrupted.cpu(), patched, clean_right, right)

    def _compared(self, number: int, ends: Ends) -> Compared:
        """Both ends of a batch; in less than float32 as patched runs give them, with all edges and
        with none: they round otherwise than a plain pass, by more than a small circuit does."""
        if number in self.compared:
            return self.compared[number]
        decoder = self.ends.decoder
        if decoder.dtype == torch.float32:
            compared = Compared(ends.clean_logits, *ends.losses([self.loss])[:, 0])
        else:
            full = self.graph.edge_mask.to(decoder.device)
            clean, corrupted = (
                patched_logits(decoder, self.graph, ends.rest, ends.corrupted, edges)
                for edges in (full, torch.zeros_like(full))
            )
            losses = (self.loss(given, clean, ends.pairs) for given in (clean, corrupted))
            compared = Compared(clean, *losses)
        if self.ends.keeps:
            self.compared[number] = compared
        return compared


def _right(logits: Tensor, pairs: PromptPairs) -> Tensor:
    """Float32 [pair]: 1 where the top token at the first position that the metric looks at is the
    right one; NaN without labels."""
    if pairs.labels is None:
        return torch.full((len(pairs),), torch.nan)
    return (logits[:, 0].argmax(-1) == pairs.labels[:, 0]).float().cpu()


def faithfulness(
    model: nn.Module,
    pairs: PromptPairs,
    circuit: Circuit,
    metric: str | Metric = "kl",
    batch_size: int = 8,
) -> Faithfulness:
    """How faithful a circuit is to `model` on `pairs`, with an interval over pairs.

    Raises `BadInput` where the circuit is that of another architecture.
    """
    experiment = Experiment.of(model, pairs, metric, batch_size)
    if circuit.graph != experiment.graph:
        raise BadInput(
            f"the circuit is of {circuit.graph.n_layers} layers x {circuit.graph.n_heads} heads, "
            f"the model has {experiment.graph.n_layers} x {experiment.graph.n_heads}"
        )
    return experiment.run([circuit.edge_mask]).faithfulness(0, resamples(200, len(pairs)))
