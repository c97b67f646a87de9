"""A record: what one checkpoint's analysis says, as data."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from tracking.model.graph import Graph
from tracking.timeline.activity import Thresholds


@dataclass(frozen=True)
class Analysis:
    """One checkpoint on the prompt pairs of one contrast."""

    edge_scores: Tensor  # float32 [source, target], signed mean score
    strength: Tensor  # float32 [source, target], mean |score|
    circuit: Tensor  # BoolTensor [source, target]
    in_circuit: Tensor  # BoolTensor [resample, head]
    edge_membership: Tensor  # float32 [source, target], share of resamples
    ensemble: Tensor  # float32 [size, head], membership with 0.5, 1 and 2 times as many edges
    effect: Tensor  # float32 [pair, head], attributed change of the right token's probability
    null: Tensor  # float32 [split], turnover between halves of the pairs
    curve: Tensor  # float32 [size, 4]: share of all edges, faithfulness, its interval
    roles: Tensor  # float32 [role, head], in the order of `tracking.nodes.roles.SCORES`
    weight_change: (
        Tensor  # float32 [5, head], change of q, k, v, o and all since the base; NaN: unknown
    )
    gap: float  # completeness gap
    clean: float  # mean probability of the right token under the clean prompts
    corrupted: float  # the same under the corrupted prompts
    difference_low: float  # lower end of the 95 % interval of clean - corrupted
    faithfulness: float  # of the circuit
    faithfulness_low: float  # 95 % interval over pairs
    faithfulness_high: float
    complement: float  # faithfulness of all edges outside the circuit
    accuracy: float  # share of pairs whose top token is right with the circuit alone
    clean_accuracy: float  # the same with the whole model
    cpr: float  # area under the curve
    cmd: float  # area between the curve and 1
    jaccard: float  # of the heads in the circuits of two disjoint halves of the pairs
    jaccard_low: float  # 95 % of splits
    jaccard_high: float
    rank_correlation: float  # Spearman's, of edge scores from two halves
    pairs_needed: float | None  # estimate for a Jaccard of 0.8

    def verdict(self, thresholds: Thresholds) -> str:
        """In one word: `absent` where clean and corrupted hardly differ, so that there is nothing
        to carry; `weak` where the circuit is not faithful, not the same from half the pairs, or
        made from too few of them to tell; `unconverged` where the integral is not complete; else
        `sound`."""
        if self.difference_low < thresholds.effect:
            return "absent"
        faithful = self.faithfulness >= thresholds.faithfulness
        agreed = self.jaccard >= thresholds.jaccard and len(self.effect) >= thresholds.pairs
        if not (faithful and agreed):
            return "weak"
        return "unconverged" if self.gap > thresholds.gap else "sound"


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
    settings: dict[str, object] = field(default_factory=dict)  # of the tracking
    versions: dict[str, str] = field(default_factory=dict)
    precision: str = "float32"

    @property
    def graph(self) -> Graph:
        """The wiring that the tensors are laid out by."""
        return Graph(self.n_layers, self.n_heads)
