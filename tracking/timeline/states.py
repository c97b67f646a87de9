"""A node's history: when it was active, by tested changes, and the words for that.

All of it is blind to the future: a later checkpoint changes no earlier state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tracking.stability.bootstrap import ends
from tracking.stability.changes import change_p, discoveries, spent, walk_p
from tracking.timeline.activity import Activity, Thresholds
from tracking.timeline.shares import Shares

EMERGENT = ("new", "surviving", "revived", "emergent")
ACTIVE = ("base", "retained", *EMERGENT)
STATES = (*ACTIVE, "undecided", "faded", "pruned", "inactive")
CODES = {state: np.int8(code) for code, state in enumerate(STATES)}


@dataclass(frozen=True)
class History:
    """What the checkpoints of a run say of every node, [step, node] each."""

    active: np.ndarray  # bool: by its state, which only a tested change ends
    verdicts: np.ndarray  # str: active, inactive or undecided by the checkpoint alone
    unsettled: np.ndarray  # bool [node]: step 0 could not tell, so it can neither emerge nor fade
    drifted: np.ndarray  # bool: in its state of step 0, yet its share has changed
    growth: np.ndarray  # float: of the size of a drifted share; 0 where it has changed sides
    change: np.ndarray  # float: of the share since step 0, where it has changed most
    lasting: np.ndarray  # bool [node]: changed since step 0 beyond the run's own fluctuation

    @classmethod
    def of(cls, shares: Sequence[Shares], thresholds: Thresholds) -> History:
        """Of the checkpoints in order; the first is step 0's.

        A node becomes active where it is so by the checkpoint and its share, in a direction in
        which it is active, has changed since its last state; it ceases to be where both shares are
        surely small and one in which it was active has changed. Changed: by at least the
        threshold, and by a paired test over the same resamples, after Benjamini and Hochberg over
        all nodes and both directions, at a part of the error rate that falls with the number of
        checkpoints so that all together stay within it. Where the behaviour is no longer there,
        no state changes: that is the behaviour's change, not the nodes'. Where step 0 does not
        show it for sure, none becomes active before it has surely grown.
        """
        judged = [Activity.judged(one, thresholds.share) for one in shares]
        sure = [one.activity(thresholds.share)[0] for one in shares]
        verdicts = np.array(
            [np.select([j.active, j.inactive], ["active", "inactive"], "undecided") for j in judged]
        )
        steps, nodes = verdicts.shape
        active = np.zeros((steps, nodes), dtype=bool)
        drifted, change, growth = active.copy(), *np.zeros((2, steps, nodes))
        active[0], unsettled = verdicts[0] == "active", verdicts[0] == "undecided"
        since = np.zeros(nodes, dtype=int)  # the checkpoint at which it came into its state
        for step in range(1, steps):
            now = shares[step]
            active[step], change[step] = active[step - 1], change[step - 1]
            if not now.there:
                verdicts[step] = "undecided"
                continue
            changed = _changed(shares, step, since, thresholds)  # [direction, node]
            before = _at(since, sure[: step + 1])
            on = ~active[step - 1] & (changed & sure[step]).any(axis=0)
            if not shares[0].there:  # there was nothing to be a share of, for sure or perhaps
                on &= _behaviour_grew(shares[0], now)
            off = active[step - 1] & (verdicts[step] == "inactive") & (changed & before).any(axis=0)
            turned = (on | off) & ~unsettled
            active[step] ^= turned
            since[turned] = step
            change[step] = _most(now.value - shares[0].value)
            same = active[step] == active[0]
            tested = _changed(shares, step, np.zeros(nodes, dtype=int), thresholds)
            stayed = same & (active[0] | unsettled) & shares[0].there
            drifted[step] = tested.any(axis=0) & stayed
            growth[step] = np.where(drifted[step], _growth(shares[0], now, tested), 0.0)
        lasting = _lasting(shares, thresholds)
        return cls(active, verdicts, unsettled, drifted, growth, change, lasting)


def _behaviour_grew(then: Shares, now: Shares) -> bool:
    """Whether the 95 % interval of the paired difference is above 0."""
    draws = min(len(then.behaviour), len(now.behaviour))
    growth = torch.from_numpy(now.behaviour[:draws] - then.behaviour[:draws])
    return bool(ends(growth, torch.tensor(now.pairs))[0] > 0)


def _most(moved: np.ndarray) -> np.ndarray:
    """float [node] of [direction, node]: the one that is largest in size."""
    most = np.abs(moved).argmax(axis=0)
    return np.take_along_axis(moved, most[None], axis=0)[0]


def _growth(then: Shares, now: Shares, tested: np.ndarray) -> np.ndarray:
    """float [node]: of the share's size, in the direction of those `tested`, bool [direction,
    node], where it has changed most; 0 where it helped and now works against, or the reverse."""
    same_side = np.sign(then.value) * np.sign(now.value) >= 0
    grown = np.abs(now.value) - np.abs(then.value)
    moved = np.where(tested, now.value - then.value, 0.0)
    most = np.abs(moved).argmax(axis=0)[None]
    return np.take_along_axis(np.where(same_side, grown, 0.0), most, axis=0)[0]


def _at(places: np.ndarray, by_step: Sequence[np.ndarray]) -> np.ndarray:
    """[..., node] of arrays by step: every node's own step."""
    stacked = np.stack(by_step)  # [step, ..., node]
    index = np.broadcast_to(places, stacked.shape[1:])[None]
    return np.take_along_axis(stacked, index, axis=0)[0]


def _changed(
    shares: Sequence[Shares], step: int, since: np.ndarray, thresholds: Thresholds
) -> np.ndarray:
    """bool [direction, node]: whether the share has changed since every node's own checkpoint."""
    now = shares[step]
    p, size = np.ones_like(now.value), np.zeros_like(now.value)
    for place in np.unique(since):
        then, these = shares[place], since == place
        if then.pairs != now.pairs:
            continue  # other pairs: nothing is paired
        draws = min(len(then.draws), len(now.draws))  # more resamples begin with the fewer
        p[:, these] = change_p(
            now.draws[:draws, :, these],
            then.draws[:draws, :, these],
            np.minimum(now.seen, then.seen)[these],
        )
        size[:, these] = np.abs(now.value - then.value)[:, these]
    tested = now.known
    significant = np.zeros_like(p, dtype=bool)
    significant[:, tested] = discoveries(p[:, tested], spent(thresholds.error, step))
    return significant & (size >= thresholds.share)


def _lasting(shares: Sequence[Shares], thresholds: Thresholds) -> np.ndarray:
    """bool [node]: changed from step 0 to now by at least the threshold, beyond a random walk with
    the run's own increments, after Benjamini and Hochberg over all nodes and both directions.

    Without behaviour all shares are 0, which is no fluctuation: such a checkpoint counts as step 0
    alone."""
    steps = [shares[0], *(one for one in shares[1:] if one.there)]
    paths = np.stack([one.value for one in steps])  # [step, direction, node]
    known = shares[-1].known & shares[-1].there
    p = walk_p(paths)
    if not known.any() or np.isnan(p).all():
        return np.zeros_like(known)
    significant = np.zeros_like(p, dtype=bool)
    significant[:, known] = discoveries(p[:, known], thresholds.error)
    return (significant & (np.abs(paths[-1] - paths[0]) >= thresholds.share)).any(axis=0)


def states(active: np.ndarray, unsettled: np.ndarray | None = None) -> np.ndarray:
    """The state of every node at every step, str [step, node], from when it was active, bool [step,
    node], and which nodes step 0 could not tell, bool [node]."""
    words = np.array(STATES)[coded(active)]
    return words if unsettled is None else np.where(unsettled, "undecided", words)


def coded(active: np.ndarray) -> np.ndarray:
    """The same as places in `STATES`, int8 [step, ...]."""
    base = active[0]
    out = np.empty(active.shape, dtype=np.int8)
    out[0] = np.where(base, CODES["base"], CODES["inactive"])
    emerged = np.zeros_like(base)  # has been active, without being a base node
    unbroken = np.ones_like(base)  # active ever since its cohort
    for step in range(1, len(active)):
        now, before = active[step], active[step - 1]
        since = np.select(
            [~emerged, unbroken & before, ~before],
            [CODES["new"], CODES["surviving"], CODES["revived"]],
            CODES["emergent"],
        )
        gone = np.where(emerged, CODES["pruned"], CODES["inactive"])
        kept = np.where(now, CODES["retained"], CODES["faded"])
        out[step] = np.where(base, kept, np.where(now, since, gone))
        unbroken &= now | ~emerged
        emerged |= now & ~base
    return out


def cohorts(active: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    """float [step, node]: the first step at which an emergent node was active, as known by each
    step; NaN before that, and for base nodes."""
    emerged = np.logical_or.accumulate(active, axis=0) & ~active[0]
    first = np.asarray(steps, dtype=float)[active.argmax(axis=0)]
    return np.where(emerged, first[None, :], np.nan)


def fates(active: np.ndarray) -> np.ndarray:
    """str [node]: of nodes that ever emerged, `survivor` where active at the last step, else
    `transient`; empty for all others."""
    emerged = active.any(axis=0) & ~active[0]
    return np.select([~emerged, active[-1]], ["", "survivor"], "transient")
