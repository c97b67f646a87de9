"""The words for a head's history: pure functions of when it was active."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

EMERGENT = ("new", "surviving", "revived", "emergent")
ACTIVE = ("base", "retained", *EMERGENT)
STATES = (*ACTIVE, "faded", "pruned", "inactive")
CODES = {state: np.int8(code) for code, state in enumerate(STATES)}


def carried(verdicts: np.ndarray) -> np.ndarray:
    """bool [step, head] from verdicts [step, head]: an undecided head keeps its last certain state,
    and is inactive before it had one."""
    active = np.zeros(verdicts.shape, dtype=bool)
    for step, verdict in enumerate(verdicts):
        last = active[step - 1] if step else np.zeros_like(active[0])
        active[step] = np.where(verdict == "undecided", last, verdict == "active")
    return active


def states(active: np.ndarray) -> np.ndarray:
    """The state of every head at every step, str [step, head], from bool [step, head]."""
    return np.array(STATES)[coded(active)]


def coded(active: np.ndarray) -> np.ndarray:
    """The same as places in `STATES`, int8 [step, ...]: words would be slow for all resamples."""
    base = active[0]
    out = np.empty(active.shape, dtype=np.int8)
    out[0] = np.where(base, CODES["base"], CODES["inactive"])
    emerged = np.zeros_like(base)  # has been active, without being a base head
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
    """float [step, head]: the first step at which an emergent head was active, as known by each
    step; NaN before that, and for base heads."""
    emerged = np.logical_or.accumulate(active, axis=0) & ~active[0]
    first = np.asarray(steps, dtype=float)[active.argmax(axis=0)]
    return np.where(emerged, first[None, :], np.nan)


def fates(active: np.ndarray) -> np.ndarray:
    """str [head]: of heads that ever emerged, `survivor` where active at the last step, else
    `transient`; empty for all others."""
    emerged = active.any(axis=0) & ~active[0]
    return np.select([~emerged, active[-1]], ["", "survivor"], "transient")
