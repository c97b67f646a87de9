"""One checkpoint's analysis: a model and frozen pairs in, a record's contents out."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version

import torch
from torch import Tensor, nn

from tracking.attribution.attribute import attribute
from tracking.attribution.importance import head_effects
from tracking.attribution.scores import Scores
from tracking.circuits.curve import Curve, curve_of, smallest
from tracking.circuits.faithfulness import Experiment
from tracking.circuits.top_edges import Selection, by_count
from tracking.errors import BadInput
from tracking.ledger.record import (
    Analysis,
    CircuitResult,
    HeadResult,
    Record,
    ScoreResult,
    StabilityResult,
)
from tracking.ledger.reward import Reward
from tracking.model.decoder import Decoder
from tracking.model.graph import Graph
from tracking.model.passes import fitting
from tracking.nodes.roles import roles
from tracking.nodes.weight_change import CHANGES, Snapshot, weight_change
from tracking.pairs.frozen import pairs_hash
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.settings import Settings
from tracking.stability.agreement import Choose, agreement, members, pairs_needed
from tracking.stability.bootstrap import interval, resamples
from tracking.stability.nulls import in_halves
from tracking.timeline.activity import Thresholds

log = logging.getLogger(__name__)

PACKAGES = ("thinking-sparks", "torch", "transformers", "trl")
METRIC = "prob"  # bounded, so that effects compare over checkpoints
HALF, DOUBLE = 0.5, 2.0  # circuit sizes beside the chosen one, times it


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is known of a run's model beside its weights."""

    base: Snapshot | None = None  # attention weights at step 0, for how far they have moved
    digit_ids: Tensor | None = None  # LongTensor [token], the tokens that are digits


def record(
    model: nn.Module,
    pairs: Mapping[str, PromptPairs],
    settings: Settings,
    step: int,
    reward: Reward,
    subject: Subject,
    thresholds: Thresholds | None = None,
    label: str = "",
) -> Record:
    """The record of `model` at a step; neither the model nor any random state is changed.

    `thresholds` are kept beside it, for those who read the record. `label` heads the progress bar;
    without one there is none.
    """
    begin, graph = time.monotonic(), Decoder.of(model).graph
    return Record(
        step=step,
        n_layers=graph.n_layers,
        n_heads=graph.n_heads,
        pairs=pairs_hash(pairs),
        analyses=analyse(model, pairs, settings, subject, label),
        reward=reward.value,
        reward_name=reward.name,
        reward_parts=reward.parts,
        seconds=time.monotonic() - begin,
        settings=dataclasses.asdict(settings),
        thresholds=dataclasses.asdict(thresholds or Thresholds()),
        versions={package: version(package) for package in PACKAGES},
        precision=str(Decoder.of(model).dtype).removeprefix("torch."),
    )


def analyse(
    model: nn.Module,
    pairs: Mapping[str, PromptPairs],
    settings: Settings,
    subject: Subject | None = None,
    label: str = "",
) -> dict[str, Analysis]:
    """Scores, circuit, how faithful and how stable it is, by contrast."""
    analyses, subject = {}, subject or Subject()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        for contrast, of_contrast in pairs.items():
            if len(of_contrast) < 2:
                raise BadInput("1 pair: how sure a circuit is takes at least 2, better 128")
            fits = fitting(Decoder.of(model), of_contrast, settings.memory_gb)
            analyses[contrast] = _halving(
                min(settings.batch_size, fits, len(of_contrast)),
                partial(
                    _analyse_contrast,
                    model,
                    of_contrast,
                    settings,
                    subject,
                    label and f"{label} {contrast}",
                ),
            )
    return analyses


def _halving(batch_size: int, make: Callable[[int], Analysis]) -> Analysis:
    """What `make` makes of a batch size, half as large as often as memory runs out."""
    while True:
        try:
            return make(batch_size)
        except (MemoryError, RuntimeError) as error:
            if batch_size == 1 or not _out_of_memory(error):
                raise
        batch_size //= 2  # out here, where the failed attempt's tensors are gone
        log.warning("out of memory: the analysis goes on with %d pairs a batch", batch_size)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _out_of_memory(error: Exception) -> bool:
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)  # the CPU's


def _analyse_contrast(
    model: nn.Module,
    pairs: PromptPairs,
    settings: Settings,
    subject: Subject,
    label: str,
    batch_size: int,
) -> Analysis:
    scores = attribute(
        model,
        pairs,
        metric=METRIC,
        steps=settings.ig_steps,
        quadrature=settings.quadrature,
        max_steps=settings.max_ig_steps,
        batch_size=batch_size,
        per_pair=True,
        label=label,
    )
    assert scores.per_pair is not None
    signed = settings.rank != "absolute"
    drawn = scores.per_pair if signed else scores.per_pair.abs()
    experiment = Experiment.of(model, pairs, METRIC, batch_size)
    weights = resamples(settings.resamples, len(pairs))
    ranked = scores.edges if signed else scores.strength
    curve, count, choose = _sized(experiment, ranked, Selection.parse(settings.select), weights)
    effect = head_effects(scores.graph, scores.per_pair)
    return Analysis(
        scores=_scores(scores, weights),
        circuit=_circuit(experiment, choose(ranked), curve, weights),
        stability=_stability(scores.graph, drawn, effect, choose, count, weights),
        heads=HeadResult(
            effect=effect,
            roles=torch.stack(list(roles(model, pairs, subject.digit_ids).scores.values())),
            weight_change=_weight_change(model, subject.base),
        ),
    )


def _scores(scores: Scores, weights: Tensor) -> ScoreResult:
    difference = interval((scores.corrupted - scores.clean)[:, None], weights)
    return ScoreResult(
        edge_scores=scores.edges,
        strength=scores.strength,
        gap=scores.gap,
        clean=float(-scores.clean.mean()),
        corrupted=float(-scores.corrupted.mean()),
        difference_low=float(difference.low),
    )


def _circuit(
    experiment: Experiment, circuit: Tensor, curve: Curve, weights: Tensor
) -> CircuitResult:
    runs = experiment.run([circuit, experiment.graph.edge_mask & ~circuit])
    carried, rest = (runs.faithfulness(place, weights) for place in range(2))
    points = zip(curve.sizes.tolist(), curve.values, strict=True)
    return CircuitResult(
        circuit=circuit,
        curve=torch.tensor([(size, point.value, point.low, point.high) for size, point in points]),
        faithfulness=carried.value,
        faithfulness_low=carried.low,
        faithfulness_high=carried.high,
        complement=rest.value,
        accuracy=carried.accuracy,
        clean_accuracy=float(runs.clean_right.mean()),
        cpr=curve.cpr,
        cmd=curve.cmd,
    )


def _weight_change(model: nn.Module, base: Snapshot | None) -> Tensor:
    """Float32 [5, head]: how far q, k, v, o and all of them have moved since the base."""
    if base is None:
        return torch.full((len(CHANGES), len(Decoder.of(model).graph.head_names)), torch.nan)
    return torch.tensor(weight_change(model, base)[list(CHANGES)].to_numpy().T).float()


def _sized(
    experiment: Experiment, ranked: Tensor, selection: Selection, weights: Tensor
) -> tuple[Curve, int, Choose]:
    """The curve over sizes, how many edges are taken, and how circuits are chosen: where
    faithfulness decides, the number of edges that it takes is kept for all resamples."""
    graph = experiment.graph
    curve = curve_of(experiment, ranked, weights)
    if selection.kind != "faithfulness":
        return curve, selection.count(graph, ranked), partial(selection.edges, graph)
    count = smallest(experiment, ranked, selection.amount, curve)
    return curve, count, partial(by_count, graph, count=count)


def _stability(
    graph: Graph, drawn: Tensor, effect: Tensor, choose: Choose, count: int, weights: Tensor
) -> StabilityResult:
    """What resamples and halves of `drawn` [pair, source, target], scores as they are ranked, and
    of `effect` [pair, head] say."""
    whole = members(graph, drawn, weights, choose)
    half, double = (
        members(graph, drawn, weights, partial(by_count, graph, count=max(1, round(times * count))))
        for times in (HALF, DOUBLE)
    )
    agreed = agreement(graph, drawn, choose)
    halves = in_halves(graph, drawn, effect, choose)
    return StabilityResult(
        in_circuit=whole.heads,
        edge_membership=whole.edges,
        ensemble=torch.stack([one.heads.float().mean(0) for one in (half, whole, double)]),
        half_membership=halves.membership,
        half_effect=halves.effect,
        half_error=halves.error,
        jaccard=float(agreed.jaccard.mean()),
        jaccard_low=float(agreed.jaccard.quantile(0.025)),
        jaccard_high=float(agreed.jaccard.quantile(0.975)),
        rank_correlation=float(agreed.rank_correlation.mean()),
        pairs_needed=pairs_needed(graph, drawn, choose, agreed.jaccard),
    )
