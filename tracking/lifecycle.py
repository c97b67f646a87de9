"""The states of a head over the checkpoints of a run: a pure function of its records.

At a checkpoint a head is

- **active** when its membership is at least `Thresholds.member` and its effect at least
  `Thresholds.effect`, the effect's interval clear of it;
- **inactive** when its membership is at most 1 - `member`, or its effect is surely below;
- **uncertain** otherwise. It then keeps its last certain state in all counts.

A head active at step 0 is a base head. The states partition the heads at every step:

    at step 0          base, inactive
    a base head later  retained, faded
    another later      inactive, new, surviving, pruned, revived, emergent

`new` at its cohort, the first step at which a head that is no base head is active; `surviving` as
long as it is active at every checkpoint since; `pruned` when inactive after that; `revived` when
active again after it was pruned; `emergent` as long as that lasts. `emergent` heads in a count are
all active heads that are no base heads: new, surviving, revived and emergent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tracking.errors import BadInput
from tracking.importance import importance, shift
from tracking.ledger import Analysis, Record
from tracking.stability import Thresholds, interval, resamples, verdicts

EMERGENT = ("new", "surviving", "revived", "emergent")
ACTIVE = ("base", "retained", *EMERGENT)
STATES = (*ACTIVE, "faded", "pruned", "inactive")
GROWTHS = ("amplified", "damped")
NUMBERS = (
    "clean", "corrupted", "gap", "faithfulness", "faithfulness_low", "faithfulness_high",
    "complement", "accuracy", "clean_accuracy", "cpr", "cmd", "jaccard", "jaccard_low",
    "jaccard_high", "rank_correlation", "probes_needed",
)  # fmt: skip
COUNTED = ("retained", "faded", "new", "surviving", "revived", "pruned")


@dataclass(frozen=True)
class Timeline:
    """What a run's records say of its heads.

    `heads` has one row per kind of probe, step and head, in that order, with the columns

    - `kind`, `step`, `head`, `layer`, `state`
    - `active` (carried through uncertainty), `uncertain`
    - `verdict` of the step's record: sound, weak, unconverged or absent
    - `membership`, and with half and twice as many edges `membership_half`, `membership_double`
    - `importance` (share of all heads' outgoing |score|), `importance_symmetric` (of what goes in
      and out), `shift` of importance since the checkpoint before, from -1 to 1
    - `effect`, `effect_low`, `effect_high` (mean and 95 % bootstrap over probes)
    - `growth`: `amplified` or `damped` for a base head whose effect's interval has left that of
      step 0, else empty
    - `cohort`: the first step at which an emergent head was active; missing for others
    - `activations`: share of the checkpoints so far at which it is active

    `counts` has one row per kind and step:

    - the step's `reward` and its name, how many `probes`, how many heads are in each state
      (`emergent` counts all active heads that are no base heads)
    - `turnover`: share of the heads active here or at the checkpoint before whose state changed,
      missing at the first; `null` and `null_high`: mean and 97.5 % of the same figure between two
      halves of the probes on this checkpoint
    - the numbers of the record's `Analysis`: `faithfulness`, `jaccard`, completeness `gap`, ...
    - `converged` (by the gap), the record's `verdict` in one word, `seconds` spent on tracking
    """

    records: Sequence[Record]
    heads: pd.DataFrame
    counts: pd.DataFrame

    @classmethod
    def of(cls, records: Sequence[Record], thresholds: Thresholds | None = None) -> Timeline:
        """The timeline of at least one record; raises `BadInput` where there is none."""
        if not records:
            raise BadInput("no records: nothing has been analysed yet")
        thresholds = thresholds or Thresholds()
        kinds = list(records[0].analyses)
        heads = [_kind_heads(records, kind, thresholds) for kind in kinds]
        counts = [
            _kind_counts(records, kind, of_kind, thresholds)
            for kind, of_kind in zip(kinds, heads, strict=True)
        ]
        return cls(
            records, pd.concat(heads, ignore_index=True), pd.concat(counts, ignore_index=True)
        )

    @property
    def kinds(self) -> list[str]:
        """The kinds of probes, the main one first."""
        return list(self.records[0].analyses)

    def at(self, step: int, kind: str) -> pd.DataFrame:
        """The heads at one step, in the graph's order."""
        return self.heads[(self.heads["step"] == step) & (self.heads["kind"] == kind)]


def _kind_counts(
    records: Sequence[Record], kind: str, heads: pd.DataFrame, thresholds: Thresholds
) -> pd.DataFrame:
    rows, before = [], None
    for record in records:
        now = heads[heads["step"] == record.step]
        active = set(now["head"][now["active"]])
        analysis = record.analyses[kind]
        counted = {state: int((now["state"] == state).sum()) for state in COUNTED}
        rows.append(
            {
                "kind": kind,
                "step": record.step,
                "reward": record.reward,
                "reward_name": record.reward_name,
                "probes": len(analysis.effect),
                "active": len(active),
                "emergent": int(now["state"].isin(EMERGENT).sum()),
                **counted,
                "uncertain": int(now["uncertain"].sum()),
                "turnover": None if before is None else _turnover(before, active),
                "null": float(analysis.null.mean()),
                "null_high": float(analysis.null.quantile(0.975)),
                **{name: getattr(analysis, name) for name in NUMBERS},
                "converged": analysis.gap <= thresholds.gap,
                "verdict": analysis.verdict(thresholds),
                "seconds": record.seconds,
            }
        )
        before = active
    return pd.DataFrame(rows).astype({"reward": float, "turnover": float})


def _turnover(before: set[str], now: set[str]) -> float:
    return len(before ^ now) / max(len(before | now), 1)


def certain(analysis: Analysis, thresholds: Thresholds) -> pd.DataFrame:
    """One row per head: membership, effect with interval, and `verdict` active, inactive or
    uncertain, by this checkpoint alone. Where the behaviour is absent all are inactive."""
    weights = resamples(len(analysis.in_circuit), len(analysis.effect))
    effect = interval(analysis.effect, weights)
    membership = analysis.in_circuit.float().mean(0)
    said = verdicts(membership, effect, thresholds)
    verdict = np.select([said.active, said.inactive], ["active", "inactive"], "uncertain")
    if analysis.verdict(thresholds) == "absent":
        verdict[:] = "inactive"
    return pd.DataFrame(
        {
            "verdict": verdict,
            "membership": membership.numpy(),
            "membership_half": analysis.ensemble[0].numpy(),
            "membership_double": analysis.ensemble[-1].numpy(),
            "effect": effect.mean.numpy(),
            "effect_low": effect.low.numpy(),
            "effect_high": effect.high.numpy(),
        }
    )


def _kind_heads(records: Sequence[Record], kind: str, thresholds: Thresholds) -> pd.DataFrame:
    graph = records[0].graph
    tables = [certain(record.analyses[kind], thresholds) for record in records]
    said = np.stack([table["verdict"].to_numpy(str) for table in tables])  # [step, head]
    steps = [record.step for record in records]
    active = carried(said)
    first = pd.concat([tables[0]] * len(tables), ignore_index=True)
    frame = pd.concat(tables, ignore_index=True).drop(columns="verdict")
    base = np.tile(active[0], len(records))
    sign = np.where(first["effect"] < 0, -1, 1)  # a head that works against grows downwards
    now, then = (np.sort(np.stack([t["effect_low"] * sign, t["effect_high"] * sign]), axis=0)
                 for t in (frame, first))  # fmt: skip
    growth = np.select([base & (now[0] > then[1]), base & (now[1] < then[0])], GROWTHS, "")
    places = {
        "kind": kind,
        "step": np.repeat(steps, len(graph.head_names)),
        "head": list(graph.head_names) * len(records),
        "layer": np.tile(np.repeat(np.arange(graph.layers), graph.heads), len(records)),
        "state": states(active).ravel(),
        "active": active.ravel(),
        "uncertain": (said == "uncertain").ravel(),
        "verdict": np.repeat(
            [record.analyses[kind].verdict(thresholds) for record in records],
            len(graph.head_names),
        ),
    }
    ever = np.cumsum(active, axis=0)
    flows = [importance(graph, record.analyses[kind].edges) for record in records]
    outgoing = np.stack([flow["importance"] for flow in flows])
    shifts = np.full(outgoing.shape, np.nan)
    shifts[1:] = shift(outgoing[:-1], outgoing[1:])
    later = {
        "importance": outgoing.ravel(),
        "importance_symmetric": np.concatenate([flow["importance_symmetric"] for flow in flows]),
        "shift": shifts.ravel(),
        "growth": growth,
        "cohort": cohorts(active, steps).ravel(),
        "activations": (ever / np.arange(1, len(records) + 1)[:, None]).ravel(),
    }
    return pd.concat([pd.DataFrame(places), frame, pd.DataFrame(later)], axis=1)


def carried(verdicts: np.ndarray) -> np.ndarray:
    """bool [step, head] from verdicts [step, head]: an uncertain head keeps its last certain state,
    and is inactive before it had one."""
    active = np.zeros(verdicts.shape, dtype=bool)
    for step, verdict in enumerate(verdicts):
        last = active[step - 1] if step else np.zeros_like(active[0])
        active[step] = np.where(verdict == "uncertain", last, verdict == "active")
    return active


def states(active: np.ndarray) -> np.ndarray:
    """The state of every head at every step, str [step, head], from bool [step, head]."""
    base = active[0]
    out = np.empty(active.shape, dtype="<U9")
    out[0] = np.where(base, "base", "inactive")
    emerged = np.zeros_like(base)  # has been active, without being a base head
    unbroken = np.ones_like(base)  # active ever since its cohort
    for step in range(1, len(active)):
        now, before = active[step], active[step - 1]
        since = np.select(
            [~emerged, unbroken & before, ~before], ["new", "surviving", "revived"], "emergent"
        )
        other = np.where(now, since, np.where(emerged, "pruned", "inactive"))
        out[step] = np.where(base, np.where(now, "retained", "faded"), other)
        unbroken &= now | ~emerged
        emerged |= now & ~base
    return out


def cohorts(active: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    """float [step, head]: the first step at which an emergent head was active, as known by each
    step; NaN before that, and for base heads."""
    emerged = np.logical_or.accumulate(active, axis=0) & ~active[0]
    first = np.asarray(steps, dtype=float)[active.argmax(axis=0)]
    return np.where(emerged, first[None, :], np.nan)
