"""Wiring kept: whether today's behaviour still runs along the edges of step 0.

Circuits of the same sizes are ranked by step 0's scores and by today's own, and run in today's
model. How much of what the own circuits carry the old ones carry too is the wiring kept:

    kept = (m(old circuit) - m(corrupted)) / (m(own circuit) - m(corrupted))

with means over pairs. Its null is today's ranking by half of the pairs, tried on the other half:
what other pairs alone would change in a ranking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tracking.circuits.faithfulness import Experiment, Runs
from tracking.circuits.top_edges import by_count, ranks
from tracking.errors import BadInput

CARRIED = 0.2  # faithfulness below which today's own circuit carries too little to compare with
SHARES = (0.1, 0.2, 0.3, 0.5, 0.7, 0.85)  # of all edges, for circuits of random edges


@dataclass(frozen=True)
class Ratio:
    """A ratio of means over pairs at every size, float32 [size] each, with a 95 % interval."""

    value: Tensor
    low: Tensor
    high: Tensor


@dataclass(frozen=True)
class Wiring:
    """What circuits ranked by step 0's scores carry of today's behaviour, over circuit sizes."""

    counts: tuple[int, ...]  # edges taken, before pruning
    own: Tensor  # float32 [size]: faithfulness of the circuits that today's scores rank
    old: Tensor  # float32 [size]: of those that step 0's scores rank
    null: Tensor  # float32 [size]: of those that today's scores on the other half of pairs rank
    kept: Ratio  # old over own; NaN where `own` is below 0.2
    null_kept: Ratio  # null over own


def wiring(
    experiment: Experiment,
    old_scores: Tensor,
    own_per_pair: Tensor,
    counts: Sequence[int],
    weights: Tensor,
) -> Wiring:
    """How much of today's behaviour the wiring of step 0 carries, at sizes of `counts` edges.

    `experiment` holds today's model and at least 2 pairs, `old_scores` [source, target] are step
    0's, `own_per_pair` [pair, source, target] today's signed ones of the same pairs; `weights`
    [resample, pair] give the intervals, paired over rankings. Raises `BadInput` where the pairs of
    scores and experiment differ in number.
    """
    pairs = len(experiment.pairs)
    if len(own_per_pair) != pairs or pairs < 2:
        raise BadInput(
            f"scores of {len(own_per_pair)} pairs, tried on {pairs}; they must be the same pairs, "
            "at least 2"
        )
    graph, own_scores = experiment.graph, own_per_pair.mean(0)
    rankings = (old_scores, own_scores)
    runs = experiment.run([by_count(graph, one, count) for one in rankings for count in counts])
    old, own = (runs.patched - runs.corrupted).chunk(2)  # [size, pair]
    null = _by_other_half(experiment, own_per_pair, counts)
    own_share, old_share, null_share = (one.mean(1) / _behaviour(runs) for one in (own, old, null))
    compared = own_share >= CARRIED
    return Wiring(
        counts=tuple(counts),
        own=own_share,
        old=old_share,
        null=null_share,
        kept=_ratio(old, own, compared, weights),
        null_kept=_ratio(null, own, compared, weights),
    )


def missing_edges(
    experiment: Experiment,
    old_scores: Tensor,
    own_scores: Tensor,
    count: int,
    limit: int = 10,
    candidates: int = 40,
) -> list[tuple[str, float]]:
    """The edges that step 0's circuit of `count` edges lacks most today, largest gain first: names
    like `M3->logits`, and the faithfulness gained where that edge alone is added.

    Tried are the `candidates` strongest edges of today's own circuit of that size, scores [source,
    target], that are not in the old one; those that gain nothing are left out.
    """
    graph = experiment.graph
    old = by_count(graph, old_scores, count)
    lacking = by_count(graph, own_scores, count) & ~old
    ranked = ranks(graph, own_scores)
    edges = sorted(lacking.nonzero().tolist(), key=lambda edge: int(ranked[tuple(edge)]))
    circuits = [old]
    for row, column in edges[:candidates]:
        circuits.append(old.clone())
        circuits[-1][row, column] = True
    gained = _carried(experiment.run(circuits))
    gains = [
        (f"{graph.sources[row]}->{graph.targets[column]}", gain)
        for (row, column), gain in zip(
            edges[:candidates], (gained[1:] - gained[0]).tolist(), strict=True
        )
        if gain > 0
    ]
    return sorted(gains, key=lambda edge: -edge[1])[:limit]


def random_size(experiment: Experiment, reach: float, seed: int = 0) -> float:
    """How many edges circuits of randomly ranked edges need to carry `reach` of the behaviour: what
    a small circuit is small against. NaN where there is no behaviour to carry.

    By bisection over seven sizes and interpolation between the last two; all edges where even
    fewer of them carry less.
    """
    graph, total = experiment.graph, int(experiment.graph.edge_mask.sum())
    scores = torch.zeros(graph.edge_mask.shape)
    drawn = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    scores[graph.edge_mask] = 1 + drawn.float()
    sizes = [0, *(max(1, round(share * total)) for share in SHARES), total]
    low, high, had, has = 0, len(sizes) - 1, 0.0, 1.0
    while high - low > 1:
        middle = (low + high) // 2
        carries = float(carried(experiment, scores, [sizes[middle]])[0])
        if np.isnan(carries):
            return np.nan
        if carries >= reach:
            high, has = middle, carries
        else:
            low, had = middle, carries
    between = (reach - had) / max(has - had, 1e-9)
    return sizes[low] + (sizes[high] - sizes[low]) * min(max(between, 0.0), 1.0)


def carried(experiment: Experiment, scores: Tensor, counts: Sequence[int]) -> Tensor:
    """Float32 [size]: the faithfulness of circuits of the top edges by `scores` [source, target];
    NaN where there is no behaviour to carry."""
    circuits = [by_count(experiment.graph, scores, count) for count in counts]
    return _carried(experiment.run(circuits))


def kept_by(
    experiment: Experiment, rankings: Sequence[Tensor], own: Tensor, count: int, weights: Tensor
) -> Ratio:
    """What circuits of `count` edges by other `rankings` [source, target] carry of what today's
    `own` ranking carries, float32 [ranking] each; NaN where `own` carries too little."""
    circuits = [by_count(experiment.graph, one, count) for one in (own, *rankings)]
    runs = experiment.run(circuits)
    carries = runs.patched - runs.corrupted
    compared = (carries[:1].mean(1) / _behaviour(runs) >= CARRIED).expand(len(rankings))
    return _ratio(carries[1:], carries[:1].expand(len(rankings), -1), compared, weights)


def _by_other_half(experiment: Experiment, per_pair: Tensor, counts: Sequence[int]) -> Tensor:
    """Float32 [size, pair]: what circuits ranked by the half of the pairs that a pair is not in
    carry of its behaviour."""
    pairs = len(per_pair)
    order = torch.randperm(pairs, generator=torch.Generator().manual_seed(0))
    halves, out = order.tensor_split(2), torch.zeros(len(counts), pairs)
    for tried, ranked_by in (halves, halves[::-1]):
        scores = per_pair[ranked_by].mean(0)
        half = experiment.among(tried)
        runs = half.run([by_count(half.graph, scores, count) for count in counts])
        out[:, tried] = runs.patched - runs.corrupted
    return out


def _carried(runs: Runs) -> Tensor:
    """Float32 [circuit]: the faithfulness of every circuit; NaN where nothing is to be carried."""
    return (runs.patched - runs.corrupted).mean(1) / _behaviour(runs)


def _behaviour(runs: Runs) -> float:
    """What there is to carry, a mean over pairs; NaN where clean and corrupted do not differ."""
    whole = float((runs.clean - runs.corrupted).mean())
    return whole if abs(whole) >= 1e-9 else np.nan


def _ratio(carried: Tensor, own: Tensor, compared: Tensor, weights: Tensor) -> Ratio:
    """`carried` over `own`, [size, pair] each, at the sizes that are `compared`."""
    drawn = (carried @ weights.T) / (own @ weights.T)  # [size, resample]
    low, high = drawn.quantile(torch.tensor([0.025, 0.975]), dim=1)
    value = carried.mean(1) / own.mean(1)
    return Ratio(*(one.masked_fill(~compared, torch.nan) for one in (value, low, high)))
