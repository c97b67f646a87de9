"""One checkpoint on the prompt pairs of one contrast: everything that its record says of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tracking.attribution import metrics
from tracking.attribution.attribute import attributed
from tracking.attribution.plan import Plan
from tracking.attribution.scores import Scores
from tracking.circuits.curve import Curve, curve_of, smallest
from tracking.circuits.entry import entry
from tracking.circuits.faithfulness import Experiment
from tracking.circuits.top_edges import Selection, by_count
from tracking.circuits.wiring import carried, kept_by, missing_edges, random_size, wiring
from tracking.ledger.record import (
    Analysis,
    BehaviourResult,
    CircuitResult,
    HeadResult,
    NodeResult,
    ScoreResult,
    StabilityResult,
    WiringResult,
)
from tracking.model.decoder import Decoder
from tracking.model.ends import AllEnds
from tracking.model.graph import Graph
from tracking.nodes.effects import node_effects, together
from tracking.nodes.roles import roles
from tracking.nodes.weight_change import CHANGES, Snapshot, weight_change
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.ranks import Peers
from tracking.settings import Settings
from tracking.stability.agreement import agreement, entries, pairs_needed
from tracking.stability.bootstrap import resamples
from tracking.timeline.activity import Activity, Thresholds
from tracking.timeline.shares import Shares, behaviour_is_there

METRIC = "neg_logit_diff"  # its shares do not move when all logits are scaled
ALL_NODES = 64  # where a model has no more, all are measured
SAMPLE = 16  # of the nodes that the scores rule out, measured to see how often that errs
ROOM = 2  # what is learned later takes more edges, and one size serves the whole run
LARGEST = 0.2  # share of all edges up to which wiring is drawn: beyond it rankings hardly matter
FEW_PAIRS = 16  # for curves over sizes, or a quarter of all where that is more


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is known of a run's model beside its weights."""

    base: Snapshot | None = None  # attention weights at step 0, for how far they have moved
    digit_ids: Tensor | None = None  # LongTensor [token], the tokens that are digits


@dataclasses.dataclass(frozen=True)
class Before:
    """What a run's earlier records settle for the next one, on one contrast.

    `meanwhile` is asked where other workers may be at earlier checkpoints: it tells them which
    nodes this checkpoint's scores make likely, BoolTensor [node], and gives what theirs do.
    """

    ranked: Tensor | None = None  # float32 [source, target], step 0's scores
    size: int | None = None  # of circuits, by the first checkpoint that had the behaviour
    measured: Tensor | None = None  # BoolTensor [node], at any checkpoint
    meanwhile: Callable[[Tensor], Tensor] = torch.zeros_like
    step: int | None = None  # of `ranked`: the first that has a record

    @classmethod
    def of(cls, analyses: Sequence[Analysis], rank: str) -> Before:
        """From the analyses of earlier checkpoints, in order; edges are ranked as `rank` says."""
        if not analyses:
            return cls()
        there = (one.circuit.size for one in analyses if one.circuit.size and Shares.of(one).there)
        measured = [one.nodes.chosen for one in analyses]
        base = analyses[0].scores
        ranked = base.edge_scores if rank == "signed" else base.strength
        return cls(ranked, next(there, None), torch.stack(measured).any(0))


def analyse_contrast(
    model: nn.Module,
    pairs: PromptPairs,
    settings: Settings,
    thresholds: Thresholds,
    subject: Subject,
    before: Before,
    label: str,
    peers: Peers | None,
    batch_size: int,
) -> Analysis:
    """Behaviour, scores, circuit, stability, effects of nodes, roles and wiring of `model`, with at
    most `batch_size` pairs a pass. `before` is what the run's earlier records settle; `label` heads
    the progress bar. `peers` take their share of the batches."""
    decoder = Decoder.of(model)
    ends = AllEnds.of(decoder, pairs, batch_size, settings.memory_gb, peers)
    scores = scored(ends, settings, label)
    assert scores.per_pair is not None
    ranks = Ranks.of(scores, settings.rank)
    weights = resamples(settings.resamples, len(pairs))
    tried = Tried.of(ends, weights)
    curve = curve_of(tried.part, ranks.whole, tried.part_weights)
    size = before.size or _size(tried.part, ranks.whole, Selection.parse(settings.select), curve)
    behaviour = scores.corrupted - scores.clean
    there = behaviour_is_there(behaviour, weights)
    by_scores = scores.per_pair[:, 1:].sum(-1)  # a node's score is that of all its edges
    likely = (by_scores.mean(0) / behaviour.mean()).abs() >= settings.screen * thresholds.share
    chosen, sampled = _chosen(likely & there, there, before)
    analysis = Analysis(
        behaviour=_behaviour(ends),
        scores=ScoreResult(scores.edges, scores.strength, scores.gap),
        circuit=_circuit(tried, ranks.whole, size, curve, scores),
        stability=_stability(scores.graph, ranks.per_pair, size, weights),
        nodes=_nodes(ends, by_scores, chosen, sampled, thresholds),
        heads=_heads(model, pairs, subject, batch_size),
        wiring=_wiring(tried, ranks, size, curve, before) if there else None,
    )
    return _with_active_together(analysis, ends, thresholds)


def scored(ends: AllEnds, settings: Settings, label: str) -> Scores:
    """Scores of the edges by a run's settings, for every pair too; `label` heads the progress
    bar."""
    plan = Plan("eap-ig", settings.quadrature, settings.ig_steps, settings.max_ig_steps)
    return attributed(ends, [METRIC], plan, per_pair=True, label=label)[0]


@dataclasses.dataclass(frozen=True)
class Ranks:
    """Scores as edges are ranked by them: signed, or by their size."""

    whole: Tensor  # float32 [source, target]
    per_pair: Tensor  # float32 [pair, source, target]

    @classmethod
    def of(cls, scores: Scores, rank: str) -> Ranks:
        assert scores.per_pair is not None
        if rank == "signed":
            return cls(scores.edges, scores.per_pair)
        return cls(scores.strength, scores.per_pair.abs())


@dataclasses.dataclass(frozen=True)
class Tried:
    """The model with all pairs, for what decides, and with a part of them, for curves over sizes,
    which would otherwise cost more than everything else."""

    whole: Experiment
    weights: Tensor  # float32 [resample, pair]
    part: Experiment
    part_rows: Tensor  # LongTensor [pair]
    part_weights: Tensor

    @classmethod
    def of(cls, ends: AllEnds, weights: Tensor) -> Tried:
        whole, rows = Experiment(ends, metrics.resolve(METRIC)), few(len(ends.pairs))
        return cls(whole, weights, whole.among(rows), rows, resamples(len(weights), len(rows)))


def few(pairs: int) -> Tensor:
    """LongTensor [pair]: places of a part of so many pairs, evenly, for what is tried often."""
    count = min(pairs, max(FEW_PAIRS, pairs // 4))
    return torch.linspace(0, pairs - 1, count).round().long()


def _size(part: Experiment, ranked: Tensor, selection: Selection, curve: Curve) -> int:
    """How many top edges the run's circuits have: where faithfulness decides, `ROOM` times as many
    as are needed here."""
    if selection.kind == "faithfulness":
        fewest = smallest(part, ranked, selection.amount, curve)
        return min(ROOM * fewest, int(part.graph.edge_mask.sum()))
    return selection.count(part.graph, ranked)


def _behaviour(ends: AllEnds) -> BehaviourResult:
    """By the clean and the corrupted pass of each pair."""
    losses = [metrics.resolve(name) for name in (METRIC, "prob")]
    (clean, clean_chance), (corrupted, corrupted_chance) = -ends.losses(losses)
    return BehaviourResult(clean, corrupted, clean_chance, corrupted_chance)


def _circuit(
    tried: Tried, ranked: Tensor, size: int, curve: Curve, scores: Scores
) -> CircuitResult:
    graph = tried.whole.graph
    circuit = by_count(graph, ranked, size)
    runs = tried.whole.run([circuit])
    alone = runs.faithfulness(0, tried.weights)
    bounds = tried.part.run(
        [graph.edge_mask, torch.zeros_like(circuit), graph.edge_mask & ~circuit]
    )
    clean, corrupted = scores.clean[tried.part_rows], scores.corrupted[tried.part_rows]
    ends = (bounds.patched - corrupted).mean(1) / (clean - corrupted).mean()
    points = zip(curve.sizes.tolist(), curve.values, strict=True)
    return CircuitResult(
        circuit=circuit,
        curve=torch.tensor([(size, point.value, point.low, point.high) for size, point in points]),
        faithfulness=alone.value,
        faithfulness_low=alone.low,
        faithfulness_high=alone.high,
        complement=bounds.faithfulness(2, tried.part_weights).value,
        accuracy=alone.accuracy,
        clean_accuracy=float(runs.clean_right.mean()),
        cpr=curve.cpr,
        cmd=curve.cmd,
        size=size,
        all_edges=float(ends[0]),
        no_edges=float(ends[1]),
        random_size=random_size(tried.part, alone.value),
    )


def _wiring(
    tried: Tried, ranks: Ranks, size: int, curve: Curve, before: Before
) -> WiringResult | None:
    """Against step 0's ranking; None at the first checkpoint, whose ranking it is."""
    old = before.ranked
    if old is None:
        return None
    at = wiring(tried.whole, old, ranks.per_pair, (size, max(size // 2, 1)), tried.weights)
    others = torch.ones(len(ranks.per_pair), dtype=torch.bool)
    others[tried.part_rows] = False
    if int(others.sum()) >= 2:
        by_others = ranks.per_pair[others][: max(len(others) // 2, 2)].mean(0)
    else:  # so few pairs that the part is all of them
        by_others = ranks.per_pair[: max(len(others) // 2, 1)].mean(0)
    double = kept_by(tried.part, (old, by_others), ranks.whole, 2 * size, tried.part_weights)
    drawn = [place for place, size in enumerate(curve.sizes) if size <= LARGEST]
    sizes = [curve.counts[place] for place in drawn]
    missing = []
    if bool((at.kept.high < at.null_kept.low).any()):
        missing = missing_edges(tried.part, old, ranks.whole, size)
    index = [tried.part.graph.index(edge) for edge, _ in missing]
    numbers = {
        f"wiring_{name}{of_size}{end}": float(getattr(ratio, bound)[place])
        for name, ratio in (("kept", at.kept), ("null", at.null_kept))
        for place, of_size in enumerate(("", "_half"))
        for end, bound in (("", "value"), ("_low", "low"), ("_high", "high"))
    }
    return WiringResult(
        sizes=torch.tensor(curve.sizes[drawn]).float(),
        own=torch.tensor([curve.values[place].value for place in drawn]),
        old=carried(tried.part, old, sizes),
        half=carried(tried.part, by_others, sizes),
        **numbers,
        wiring_kept_double=float(double.value[0]),
        wiring_null_double=float(double.value[1]),
        missing=torch.tensor(index, dtype=torch.long).view(-1, 2),
        restored=torch.tensor([gain for _, gain in missing]),
        against=before.step,
    )


def _stability(graph: Graph, per_pair: Tensor, size: int, weights: Tensor) -> StabilityResult:
    """What resamples and halves of the scores [pair, source, target], as they are ranked, say."""
    drawn, agreed = entries(graph, per_pair, weights, size), agreement(graph, per_pair, size)
    return StabilityResult(
        entries=drawn.nodes,
        edge_entry=entry(graph, per_pair.mean(0)).edges,
        edge_membership=drawn.membership,
        jaccard=float(agreed.jaccard.mean()),
        jaccard_low=float(agreed.jaccard.quantile(0.025)),
        jaccard_high=float(agreed.jaccard.quantile(0.975)),
        rank_correlation=float(agreed.rank_correlation.mean()),
        pairs_needed=pairs_needed(graph, per_pair, size, agreed.jaccard),
        edge_draws=drawn.draws,
    )


def _nodes(
    ends: AllEnds, by_scores: Tensor, chosen: Tensor, sampled: Tensor, thresholds: Thresholds
) -> NodeResult:
    """Effects of the `chosen` and the `sampled` nodes, beside those `by_scores` [pair, node]."""
    loss, least = metrics.resolve(METRIC), thresholds.share
    measured = node_effects(ends, chosen | sampled, loss, least)
    none = torch.full((len(ends.pairs),), torch.nan)
    return NodeResult(
        corrupt=measured.corrupt,
        restore=measured.restore,
        attributed=by_scores,
        sampled=sampled,
        together=torch.zeros_like(chosen),
        together_corrupt=none,
        together_restore=none,
    )


def _chosen(likely: Tensor, there: bool, before: Before) -> tuple[Tensor, Tensor]:
    """BoolTensors [node]: those to be measured on their merits, and a sample of the others. All,
    where these are few; else those that the scores make `likely`, here or at an earlier checkpoint.
    Where the behaviour is not `there` nothing has a share of it, and none is sampled."""
    if len(likely) <= ALL_NODES:
        return torch.ones_like(likely), torch.zeros_like(likely)
    chosen = likely | before.meanwhile(likely)
    if before.measured is not None:
        chosen |= before.measured
    return chosen, _sample(~chosen) if there else torch.zeros_like(chosen)


def _sample(others: Tensor) -> Tensor:
    """BoolTensor [node]: `SAMPLE` of the others [node], the same at every checkpoint as long as
    they are."""
    order = torch.rand(len(others), generator=torch.Generator().manual_seed(0))
    drawn = order.masked_fill(~others, 2).argsort()[:SAMPLE]
    return torch.zeros_like(others).index_fill(0, drawn, True) & others


def _with_active_together(analysis: Analysis, ends: AllEnds, thresholds: Thresholds) -> Analysis:
    """With the effects of all nodes at once that are active by this checkpoint alone."""
    shares = Shares.of(analysis)
    active = torch.from_numpy(Activity.judged(shares, thresholds.share).active)
    if not active.any():
        return analysis
    corrupt, restore = together(ends, active[None], metrics.resolve(METRIC))
    nodes = dataclasses.replace(
        analysis.nodes,
        together=active,
        together_corrupt=corrupt[:, 0],
        together_restore=restore[:, 0],
    )
    return dataclasses.replace(analysis, nodes=nodes)


def _heads(model: nn.Module, pairs: PromptPairs, subject: Subject, batch_size: int) -> HeadResult:
    scores = roles(model, pairs, subject.digit_ids, batch_size=batch_size).scores
    return HeadResult(torch.stack(list(scores.values())), _weight_change(model, subject.base))


def _weight_change(model: nn.Module, base: Snapshot | None) -> Tensor:
    """Float32 [5, head]: how far q, k, v, o and all of them have moved since the base."""
    if base is None:
        return torch.full((len(CHANGES), len(Decoder.of(model).graph.head_names)), torch.nan)
    return torch.tensor(weight_change(model, base)[list(CHANGES)].to_numpy().T).float()
