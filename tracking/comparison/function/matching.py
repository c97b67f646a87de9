"""Nodes of two bases, matched by what they do.

In another base `L2H5` is another head, so the active heads (and MLPs) of two models are matched by
function: one to one, so that the sum of their likenesses is as large as it can be (Hungarian). Two
nodes are alike where they do the same on the same pairs: the correlation over pairs of their exact
effects, corrupting and restoring, without what follows from the behaviour of either model on a pair
alone (all nodes do more where there is more to do); for heads, beside it, how near their role
scores are.

Any two sets can be matched. The null is the same matching with the pairs of one model shuffled and
the roles of its heads dealt out anew: a match is beyond chance where its likeness is more than the
best that a node finds there, after Benjamini and Hochberg over the nodes. A second one matches with
as many nodes that are not active.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from tracking.ledger.record import Analysis
from tracking.model.graph import Graph
from tracking.nodes.role_words import SCORES, THRESHOLDS
from tracking.stability.changes import discoveries
from tracking.timeline.activity import Activity, Thresholds
from tracking.timeline.shares import Shares

SHUFFLES = 500
COLUMNS = ("node", "match", "likeness", "correlation", "roles", "p", "beyond_chance")


@dataclass(frozen=True)
class Nodes:
    """What is known of one model's nodes of one kind, for matching."""

    names: list[str]
    effects: np.ndarray  # float [pair, direction, node]
    roles: np.ndarray  # float [role, node]; without any for MLPs
    active: np.ndarray  # bool [node]

    def some(self, chosen: np.ndarray) -> Nodes:
        """Those at these places."""
        names = [self.names[place] for place in chosen]
        return Nodes(names, self.effects[:, :, chosen], self.roles[:, chosen], self.active[chosen])


@dataclass(frozen=True)
class Matching:
    """The active nodes of two models, matched."""

    table: pd.DataFrame  # one row a match, columns as in `COLUMNS`
    unmatched: tuple[list[str], list[str]]  # of each model, for want of nodes in the other
    mean: float  # likeness of the matches; NaN without any
    shuffled: tuple[float, float]  # mean and 95 % percentile of the same with shuffled pairs
    others: float  # mean likeness where matched with as many nodes that are not active


def nodes_of(graph: Graph, analysis: Analysis, thresholds: Thresholds, kind: str) -> Nodes:
    """The heads or the MLPs (`head`, `mlp`) that were measured on all pairs."""
    both = np.stack([analysis.nodes.corrupt.numpy(), analysis.nodes.restore.numpy()], axis=1)
    heads = np.array(["H" in name for name in graph.nodes])
    chosen = np.flatnonzero((heads == (kind == "head")) & ~np.isnan(both).any(axis=(0, 1)))
    active = Activity.judged(Shares.of(analysis), thresholds.share).active
    roles = np.zeros((0, len(chosen)))
    if kind == "head":
        of_heads = dict(zip(graph.head_names, analysis.heads.roles.numpy().T, strict=True))
        known = [place for place, name in enumerate(SCORES) if name in THRESHOLDS]
        roles = np.array([of_heads[graph.nodes[node]][known] for node in chosen]).T
        roles = roles.reshape(len(known), len(chosen))
    names = [graph.nodes[node] for node in chosen]
    return Nodes(names, both[:, :, chosen], roles, active[chosen])


def matching(
    one: Nodes, other: Nodes, behaviours: np.ndarray, error: float, seed: int = 0
) -> Matching:
    """The active nodes of `one` matched with those of `other`, on the same pairs; `behaviours`
    [model, pair] are what both models do on each."""
    generator = np.random.default_rng(seed)
    mine, theirs = (nodes.some(np.flatnonzero(nodes.active)) for nodes in (one, other))
    profiles = [_profiles(nodes.effects, behaviours) for nodes in (mine, theirs)]
    correlation = _correlation(*profiles)
    near = _near(mine.roles, theirs.roles)
    likeness = _likeness(correlation, near)
    rows, columns = linear_sum_assignment(likeness, maximize=True)
    best, means = _null(mine, theirs, profiles, generator)
    matched = likeness[rows, columns]
    p = (1 + (best[:, rows] >= matched).sum(axis=0)) / (1 + len(best))
    table = pd.DataFrame(
        {
            "node": [mine.names[row] for row in rows],
            "match": [theirs.names[column] for column in columns],
            "likeness": matched,
            "correlation": correlation[rows, columns],
            "roles": near[rows, columns],
            "p": p,
            "beyond_chance": discoveries(p, error),
        },
        columns=list(COLUMNS),
    )
    left = (
        [name for place, name in enumerate(mine.names) if place not in rows],
        [name for place, name in enumerate(theirs.names) if place not in columns],
    )
    if not len(rows):
        return Matching(table, left, np.nan, (np.nan, np.nan), np.nan)
    level = float(means.mean()), float(np.quantile(means, 0.95))
    others = _with_others(mine, other, profiles[0], behaviours)
    return Matching(table, left, float(matched.mean()), level, others)


def _profiles(effects: np.ndarray, behaviours: np.ndarray) -> np.ndarray:
    """Effects [pair, direction, node] without what a line in both models' behaviours [model, pair]
    says of them, each of length 1; 0 where nothing is left."""
    given = np.column_stack([np.ones(behaviours.shape[1]), *behaviours])
    flat = effects.reshape(len(effects), -1).astype(float)
    left = flat - given @ np.linalg.lstsq(given, flat, rcond=None)[0]
    size = np.linalg.norm(left, axis=0)
    least = 1e-6 * np.linalg.norm(flat, axis=0)
    unit = np.divide(left, size, out=np.zeros_like(left), where=size > np.maximum(least, 1e-12))
    return unit.reshape(effects.shape)


def _correlation(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """float [node, node]: mean over directions of the correlation over pairs."""
    return np.einsum("pdi,pdj->ij", mine, theirs) / mine.shape[1]


def _near(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """float [node, node]: 1 less the mean difference of role scores; NaN without any."""
    apart = np.abs(mine[:, :, None] - theirs[:, None])  # [role, node, node]
    known = ~np.isnan(apart)
    count = known.sum(axis=0)
    total = np.where(known, apart, 0.0).sum(axis=0)
    return 1 - np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def _likeness(correlation: np.ndarray, near: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(near), correlation, (correlation + near) / 2)


def _null(
    mine: Nodes, theirs: Nodes, profiles: list[np.ndarray], generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """With shuffled pairs and roles: the best likeness that every node finds, [shuffle, node], and
    the mean of the matches, [shuffle]."""
    pairs = len(profiles[0])
    best, means = np.zeros((SHUFFLES, len(mine.names))), np.zeros(SHUFFLES)
    if not mine.names or not theirs.names:
        return best, means
    for shuffle in range(SHUFFLES):
        correlation = _correlation(profiles[0][generator.permutation(pairs)], profiles[1])
        dealt = mine.roles[:, generator.permutation(len(mine.names))]
        likeness = _likeness(correlation, _near(dealt, theirs.roles))
        best[shuffle] = likeness.max(axis=1)
        rows, columns = linear_sum_assignment(likeness, maximize=True)
        means[shuffle] = likeness[rows, columns].mean()
    return best, means


def _with_others(mine: Nodes, other: Nodes, profiles: np.ndarray, behaviours: np.ndarray) -> float:
    """Mean likeness of a matching with all nodes of `other` that are not active; NaN where these
    are fewer than the nodes to be matched."""
    rest = other.some(np.flatnonzero(~other.active))
    if len(rest.names) < len(mine.names):
        return np.nan
    correlation = _correlation(profiles, _profiles(rest.effects, behaviours))
    likeness = _likeness(correlation, _near(mine.roles, rest.roles))
    return float(likeness[linear_sum_assignment(likeness, maximize=True)].mean())
