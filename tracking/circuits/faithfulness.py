"""Whether a circuit carries the behaviour: the model with every other edge at its corrupted value.

    faithfulness = (m(circuit) - m(corrupted)) / (m(clean) - m(corrupted))

with means over pairs, so 1 for all edges and 0 for none. Curves over circuit sizes and the areas
CPR (under the curve) and CMD (between it and 1) are those of MIB (2504.13151).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from tracking.attribution import metrics
from tracking.circuits.circuit import Circuit, prune
from tracking.errors import BadInput
from tracking.model.decoder import Decoder
from tracking.model.graph import Graph
from tracking.model.passes import Batch, Metric, Passes, by_length, check, trimmed
from tracking.model.taps import tapped
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.patching.edges import Corrupted, patched_logits
from tracking.stability.bootstrap import resamples

KEPT_GB = 2.0  # of what a model's parts give on the corrupted prompts


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
class Experiment:
    """A model and pairs, to be run with only the edges of some circuits."""

    decoder: Decoder
    graph: Graph
    loss: Metric
    pairs: PromptPairs
    batch_size: int
    kept: list[tuple[Batch, Corrupted]] = field(default_factory=list)  # both ends, by batch

    @classmethod
    def of(
        cls, model: nn.Module, pairs: PromptPairs, metric: str | Metric, batch_size: int = 8
    ) -> Experiment:
        """Raises `BadInput` for what `attribute` refuses too."""
        decoder, graph = Decoder.of(model), Decoder.of(model).graph
        check(decoder, pairs, batch_size)
        return cls(decoder, graph, metrics.resolve(metric), pairs, batch_size)

    def run(self, circuits: Sequence[Tensor]) -> Runs:
        """All circuits, BoolTensors [source, target], on all pairs; the model is as before.

        Equal circuits (small ones are often empty once pruned) are run once.
        """
        pruned = prune(self.graph, torch.stack(list(circuits)))
        each, places = pruned.unique(dim=0, return_inverse=True)
        runs = self._run(list(each))
        return replace(runs, patched=runs.patched[places], right=runs.right[places])

    def _run(self, circuits: Sequence[Tensor]) -> Runs:
        count, total = len(circuits), len(self.pairs)
        clean, corrupted, clean_right = torch.zeros(3, total)
        patched, right = torch.zeros(2, count, total)
        kept = [edges.to(self.decoder.device) for edges in circuits]
        for number, rows in enumerate(by_length(self.pairs, self.batch_size)):
            batch, ended = self._ends(number, rows)
            clean[rows], corrupted[rows] = batch.clean_loss[0].cpu(), batch.corrupted_loss[0].cpu()
            clean_right[rows] = _right(batch.clean_logits, batch.pairs)
            for place, edges in enumerate(kept):
                given = patched_logits(self.decoder, self.graph, batch.pairs, ended, edges)
                patched[place, rows] = self.loss(given, batch.clean_logits, batch.pairs).cpu()
                right[place, rows] = _right(given, batch.pairs)
        return Runs(clean, corrupted, patched, clean_right, right)

    def _ends(self, number: int, rows: Tensor) -> tuple[Batch, Corrupted]:
        """Both ends of a batch; kept for the next run where all batches fit into `KEPT_GB`."""
        if number < len(self.kept):
            return self.kept[number]
        with tapped(self.decoder) as taps:
            passes = Passes(self.decoder, self.graph, taps, (self.loss,))
            batch, _, outputs = passes.ends(trimmed(self.pairs[rows]))
            corrupted = Corrupted.seen(outputs, taps)
        if self.decoder.dtype != torch.float32:
            batch = self._patched_ends(batch, corrupted)
        size = corrupted.bytes / 1e9 * len(self.pairs) / len(rows)
        if size <= KEPT_GB and number == len(self.kept):
            self.kept.append((batch, corrupted))
        return batch, corrupted

    def _patched_ends(self, batch: Batch, corrupted: Corrupted) -> Batch:
        """The batch with both ends as patched runs give them, with all edges and with none: in less
        than float32 they round otherwise than a plain pass, by more than a small circuit does."""
        full = self.graph.edge_mask.to(self.decoder.device)
        clean_logits, corrupted_logits = (
            patched_logits(self.decoder, self.graph, batch.pairs, corrupted, edges)
            for edges in (full, torch.zeros_like(full))
        )
        return replace(
            batch,
            clean_logits=clean_logits,
            clean_loss=self.loss(clean_logits, clean_logits, batch.pairs)[None],
            corrupted_loss=self.loss(corrupted_logits, clean_logits, batch.pairs)[None],
        )


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
