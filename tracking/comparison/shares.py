"""Shares of nodes in two models on the same pairs: whether they differ, and who is active where.

A difference is one of at least the threshold, by a paired test over the same resamples, after
Benjamini and Hochberg over all nodes, both directions and every two models: the test by which a
node of a run changes its state. So "only in A" takes more than a node that is surely active in A
and surely inactive in B.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from tracking.ledger.record import Analysis
from tracking.stability.bootstrap import ends, halves
from tracking.stability.changes import change_p, discoveries
from tracking.timeline.activity import Activity, Thresholds
from tracking.timeline.shares import Shares

SPLITS = 20  # of the pairs into halves, for the null


@dataclass(frozen=True)
class Between:
    """Shares in one model less those in another, [direction, node] each."""

    value: np.ndarray
    low: np.ndarray  # 95 % interval, paired over resamples
    high: np.ndarray
    p: np.ndarray
    differs: np.ndarray  # bool

    @property
    def nodes(self) -> np.ndarray:
        """bool [node]: those that differ in a direction."""
        return np.asarray(np.any(self.differs, axis=0))

    @property
    def larger(self) -> np.ndarray:
        """int [node]: the direction in which it differs most, of those in which it does."""
        size = np.abs(np.nan_to_num(self.value))
        return np.where(self.differs, size, size - 1e9).argmax(axis=0)

    def at(self, node: int) -> tuple[float, float, float]:
        """The difference of a node with its interval, in that direction."""
        place = self.larger[node], node
        return float(self.value[place]), float(self.low[place]), float(self.high[place])


@dataclass(frozen=True)
class Compared:
    """The nodes of models of one base, on the pairs of one contrast.

    Models that do not show the behaviour have no shares: they are `absent`, and nothing is said of
    their nodes.
    """

    shares: Mapping[str, Shares]  # by model
    active: Mapping[str, Activity]  # by model that shows the behaviour
    between: Mapping[tuple[str, str], Between]  # of every two of these, the second less the first
    words: Sequence[str]  # [node], as of `_words`
    where: Sequence[Sequence[str]]  # [node], the models in which it is surely active

    @classmethod
    def of(
        cls, analyses: Mapping[str, Analysis], thresholds: Thresholds, paired: bool = True
    ) -> Compared:
        """`paired`: whether the models are on the same pairs; otherwise on unlike ones."""
        shares = {name: Shares.of(one) for name, one in analyses.items()}
        there = {name: one for name, one in shares.items() if one.there}
        active = {name: Activity.judged(one, thresholds.share) for name, one in there.items()}
        between = _between(there, thresholds, paired)
        nodes = range(next(iter(shares.values())).value.shape[1])
        where = [[name for name in there if active[name].active[node]] for node in nodes]
        sure = {name: one.activity(thresholds.share)[0] for name, one in there.items()}
        words = [_word(node, where[node], active, between, sure) for node in nodes]
        return cls(shares, active, between, words, where)

    @property
    def absent(self) -> list[str]:
        """The models that do not show the behaviour."""
        return [name for name, one in self.shares.items() if not one.there]


@dataclass(frozen=True)
class Null:
    """One model compared with itself, on two halves of the pairs; over `SPLITS` of them."""

    differing: float  # nodes that differ, on average
    only: float  # nodes that are said to be active in one half only
    largest: float  # difference of any node's share that 95 % of splits stay below


def null(analysis: Analysis, thresholds: Thresholds) -> Null:
    """What other pairs alone would make of a comparison; NaN where halves have no behaviour."""
    rows = []
    for split in halves(SPLITS, len(analysis.behaviour.clean)):
        parts = {str(i): on_pairs(analysis, half.nonzero()[:, 0]) for i, half in enumerate(split)}
        both = Compared.of(parts, thresholds, paired=False)
        if both.between:
            (between,) = both.between.values()
            size = np.abs(np.nan_to_num(between.value)).max()
            rows.append((between.nodes.sum(), both.words.count("only"), size))
    if not rows:
        return Null(np.nan, np.nan, np.nan)
    differing, only, largest = np.array(rows, dtype=float).T
    return Null(differing.mean(), only.mean(), float(np.quantile(largest, 0.95)))


def on_pairs(analysis: Analysis, rows: Tensor) -> Analysis:
    """What `Shares` reads of an analysis, of some of its pairs, LongTensor [pair]."""
    behaviour, nodes = analysis.behaviour, analysis.nodes
    return replace(
        analysis,
        behaviour=replace(
            behaviour,
            **{name: getattr(behaviour, name)[rows] for name in vars(behaviour)},
        ),
        nodes=replace(
            nodes,
            **{name: getattr(nodes, name)[rows] for name in ("corrupt", "restore", "attributed")},
        ),
    )


def _between(
    there: Mapping[str, Shares], thresholds: Thresholds, paired: bool
) -> dict[tuple[str, str], Between]:
    each = {
        (one, other): _difference(there[one], there[other], paired)
        for one, other in combinations(there, 2)
    }
    if not each:
        return {}
    p = np.stack([p for *_, p in each.values()])  # [couple, direction, node]
    known = np.stack([there[a].known & there[b].known for a, b in each])[:, None]
    tested = np.broadcast_to(known, p.shape)
    significant = np.zeros(p.shape, dtype=bool)
    significant[tested] = discoveries(p[tested], thresholds.error)
    return {
        couple: Between(value, low, high, p, sure & (np.abs(value) >= thresholds.share))
        for (couple, (value, low, high, p)), sure in zip(each.items(), significant, strict=True)
    }


def _difference(
    one: Shares, other: Shares, paired: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of `other` less `one`: value, interval and p."""
    count = min(len(one.draws), len(other.draws))  # more resamples begin with the fewer
    before, now = one.draws[:count], other.draws[:count]
    if not paired:
        before = np.roll(before, 1, axis=0)  # or the same weights would tie unlike pairs
    seen = np.minimum(one.seen, other.seen)
    p = change_p(now, before, seen)
    low, high = ends(torch.from_numpy(now - before), torch.from_numpy(seen))
    return other.value - one.value, low.numpy(), high.numpy(), p


def _word(
    node: int,
    where: Sequence[str],
    active: Mapping[str, Activity],
    between: Mapping[tuple[str, str], Between],
    sure: Mapping[str, np.ndarray],
) -> str:
    """Where a node is active: in `all` models or in `none`; in `some` or in one `only`, where it is
    surely inactive in the others and differs from each of them, in a direction in which it is
    active; else `undecided`. `alone`: only one model shows the behaviour, and it is active
    there."""
    rest = [name for name in active if name not in where]
    if not active:
        return "undecided"
    if len(active) < 2 and where:
        return "alone"
    if not rest and where:
        return "all"
    if not all(active[name].inactive[node] for name in rest):
        return "undecided"
    if not where:
        return "none"
    for name in where:
        for other in rest:
            couple = between.get((name, other)) or between[other, name]
            if not (couple.differs & sure[name])[:, node].any():
                return "undecided"
    return "only" if len(where) == 1 else "some"
