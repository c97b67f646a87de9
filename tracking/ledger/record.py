"""A record: what one checkpoint's analysis says, as data, in parts that can grow.

A part is a dataclass of tensors and numbers. A field that a part gets later has a default, and a
part that an analysis gets later may be None: a record of before is read with that missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from math import nan

import torch
from torch import Tensor

from tracking.model.graph import Graph

PROCEDURE = ("batch_size", "memory_gb", "budget", "on_error")  # settings that change no finding


@dataclass(frozen=True)
class BehaviourResult:
    """What the model does with the prompt pairs; float32 [pair] each."""

    clean: Tensor  # logit of the right token less that of the other side's, clean prompts
    corrupted: Tensor  # the same two tokens, corrupted prompts
    clean_probability: Tensor  # of the right token, clean prompts
    corrupted_probability: Tensor  # of the same token, corrupted prompts


@dataclass(frozen=True)
class ScoreResult:
    """The scores of edges, in logits, and how complete their integral is."""

    edge_scores: Tensor  # float32 [source, target], signed mean over pairs
    strength: Tensor  # float32 [source, target], mean |score|
    gap: float  # completeness gap


@dataclass(frozen=True)
class CircuitResult:
    """The circuit of the run's size, and what it carries of the behaviour."""

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
    size: int = 0  # edges taken before dead ends are pruned: one number for the whole run
    all_edges: float = nan  # faithfulness with every edge kept: 1 where patching is exact
    no_edges: float = nan  # with none: 0
    random_size: float = nan  # edges that carry as much when they are drawn at random


@dataclass(frozen=True)
class WiringResult:
    """What circuits ranked by step 0's scores carry today; the first record has none, and one in
    which the behaviour is absent.

    Curves are of a part of the pairs, intervals of all: the ratio of step 0's circuit to today's
    own, at the run's size, at half of it and at twice it, and the same ratio for a ranking by half
    of the pairs.
    """

    sizes: Tensor  # float32 [size], shares of all edges
    own: Tensor  # float32 [size], faithfulness of today's own ranking
    old: Tensor  # float32 [size], of step 0's ranking
    half: Tensor  # float32 [size], of today's ranking by the other half of the pairs
    wiring_kept: float
    wiring_kept_low: float
    wiring_kept_high: float
    wiring_null: float
    wiring_null_low: float
    wiring_null_high: float
    wiring_kept_half: float
    wiring_kept_half_low: float
    wiring_kept_half_high: float
    wiring_null_half: float
    wiring_null_half_low: float
    wiring_null_half_high: float
    wiring_kept_double: float
    wiring_null_double: float
    missing: Tensor  # LongTensor [edge, 2]: source and target of the edges that restore most
    restored: Tensor  # float32 [edge]: faithfulness that step 0's circuit gains by each alone
    against: int | None = None  # the step whose ranking is step 0's; None in a record of before


@dataclass(frozen=True)
class StabilityResult:
    """The same analysis on resampled pairs and on halves of them."""

    entries: Tensor  # int32 [resample, node], the fewest top edges by which a node is in
    edge_entry: Tensor  # int32 [source, target], of the scores of all pairs
    edge_membership: Tensor  # float32 [source, target], share of resamples, at the run's size
    jaccard: float  # of the heads in the circuits of two disjoint halves of the pairs
    jaccard_low: float  # 95 % of splits
    jaccard_high: float
    rank_correlation: float  # Spearman's, of edge scores from two halves
    pairs_needed: float | None  # estimate for a Jaccard of 0.8
    edge_draws: Tensor | None = None  # uint8 [byte, edge], `sets.packed` samples of unsure edges


@dataclass(frozen=True)
class NodeResult:
    """What every head and MLP does, by intervention: float32 [pair, node] in the order of
    `Graph.nodes`, in logits, NaN where it was not measured."""

    corrupt: Tensor  # behaviour lost when its output alone is corrupted
    restore: Tensor  # behaviour gained when it alone is clean in the corrupted run
    attributed: Tensor  # behaviour lost by its scores: what decides which nodes are measured
    sampled: Tensor  # BoolTensor [node], measured to see how often the screen errs
    together: Tensor  # BoolTensor [node], the nodes that are active here
    together_corrupt: Tensor  # float32 [pair], all of these at once
    together_restore: Tensor

    @property
    def measured(self) -> Tensor:
        """BoolTensor [node]: on any pair."""
        return ~self.corrupt.isnan().all(0)

    @property
    def chosen(self) -> Tensor:
        """BoolTensor [node]: measured because scores made it likely, here or before."""
        return self.measured & ~self.sampled


@dataclass(frozen=True)
class HeadResult:
    """What is known of every head beside its effect."""

    roles: Tensor  # float32 [role, head], in the order of `tracking.nodes.role_words.SCORES`
    weight_change: Tensor  # float32 [5, head], of q, k, v, o and all since the base; NaN: unknown


@dataclass(frozen=True)
class Analysis:
    """One checkpoint on the prompt pairs of one contrast."""

    behaviour: BehaviourResult
    scores: ScoreResult
    circuit: CircuitResult
    stability: StabilityResult
    nodes: NodeResult
    heads: HeadResult
    wiring: WiringResult | None = None

    @property
    def numbers(self) -> dict[str, float | None]:
        """Every number of every part, by its name."""
        parts = [getattr(self, part.name) for part in fields(self)]
        values = {
            item.name: getattr(part, item.name)
            for part in parts
            if part is not None
            for item in fields(part)
        }
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
    precision: str = "float32"  # `Decoder.precision`
    began: int = 0  # the step at which its stage of training did; its trainer counts from there

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights and passes that it was made from."""
        return torch.float32 if self.precision == "tf32" else getattr(torch, self.precision)

    @property
    def graph(self) -> Graph:
        """The wiring that the tensors are laid out by."""
        return Graph(self.n_layers, self.n_heads)
