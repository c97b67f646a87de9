"""A record: what one checkpoint's analysis says, as data, in parts that can grow.

A part is a dataclass of tensors and numbers. A field that a part gets later has a default, and a
part that an analysis gets later may be None: a record of before is read with that missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from torch import Tensor

from tracking.model.graph import Graph

PROCEDURE = ("batch_size", "memory_gb", "budget", "on_error")  # settings that change no finding


@dataclass(frozen=True)
class ScoreResult:
    """The scores of edges, and how complete their integral is."""

    edge_scores: Tensor  # float32 [source, target], signed mean over pairs
    strength: Tensor  # float32 [source, target], mean |score|
    gap: float  # completeness gap
    clean: float  # mean probability of the right token under the clean prompts
    corrupted: float  # the same under the corrupted prompts
    difference_low: float  # lower end of the 95 % interval of clean - corrupted


@dataclass(frozen=True)
class CircuitResult:
    """The circuit that was chosen, and what it carries of the behaviour."""

    circuit: Tensor  # BoolTensor [source, target]
    curve: Tensor  # float32 [size, 4]: share of all edges, faithfulness, its interval
    faithfulness: float
    faithfulness_low: float  # 95 % interval over pairs
    faithfulness_high: float
    complement: float  # faithfulness of all edges outside the circuit
    accuracy: float  # share of pairs whose top token is right with the circuit alone
    clean_accuracy: float  # the same with the whole model
    cpr: float  # area under the curve
    cmd: float  # area between the curve and 1


@dataclass(frozen=True)
class StabilityResult:
    """The same analysis on resampled pairs and on halves of them."""

    in_circuit: Tensor  # BoolTensor [resample, head]
    edge_membership: Tensor  # float32 [source, target], share of resamples
    ensemble: Tensor  # float32 [size, head], membership with 0.5, 1 and 2 times as many edges
    jaccard: float  # of the heads in the circuits of two disjoint halves of the pairs
    jaccard_low: float  # 95 % of splits
    jaccard_high: float
    rank_correlation: float  # Spearman's, of edge scores from two halves
    pairs_needed: float | None  # estimate for a Jaccard of 0.8
    half_membership: Tensor | None = None  # float32 [split, half, head], share of resamples in it
    half_effect: Tensor | None = None  # float32 [split, half, head], mean over the half's pairs
    half_error: Tensor | None = None  # float32 [split, half, head], half of its 95 % interval


@dataclass(frozen=True)
class HeadResult:
    """What is known of every head beside the circuit."""

    effect: Tensor  # float32 [pair, head], attributed change of the right token's probability
    roles: Tensor  # float32 [role, head], in the order of `tracking.nodes.role_words.SCORES`
    weight_change: Tensor  # float32 [5, head], of q, k, v, o and all since the base; NaN: unknown


@dataclass(frozen=True)
class Analysis:
    """One checkpoint on the prompt pairs of one contrast."""

    scores: ScoreResult
    circuit: CircuitResult
    stability: StabilityResult
    heads: HeadResult

    @property
    def numbers(self) -> dict[str, float | None]:
        """Every number of every part, by its name."""
        parts = [getattr(self, part.name) for part in fields(self)]
        values = {item.name: getattr(part, item.name) for part in parts for item in fields(part)}
        return {name: one for name, one in values.items() if isinstance(one, int | float | None)}


@dataclass(frozen=True)
class Record:
    """One analysed checkpoint."""

    step: int
    n_layers: int
    n_heads: int  # query heads per layer
    pairs: str  # hash of the frozen pairs
    analyses: dict[str, Analysis]  # by contrast
    reward: float | None = None  # mean over the training steps since the checkpoint before
    reward_name: str = "reward"
    reward_parts: dict[str, float] = field(default_factory=dict)  # by reward function
    seconds: float = 0.0  # spent on tracking this checkpoint
    settings: dict[str, object] = field(default_factory=dict)  # of the analysis
    thresholds: dict[str, float] = field(default_factory=dict)  # that the run reads its records by
    versions: dict[str, str] = field(default_factory=dict)
    precision: str = "float32"

    @property
    def graph(self) -> Graph:
        """The wiring that the tensors are laid out by."""
        return Graph(self.n_layers, self.n_heads)
