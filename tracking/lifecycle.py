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

All of this is blind to the future: a later checkpoint changes no earlier state. The one exception
is a head's **fate**, at the last checkpoint there is: `survivor` where a head that ever emerged is
active there, else `transient`.

`tracking.states` has these words as functions of bool [step, head], `tracking.counts` how many
heads are in each state, with intervals, and turnover; `tracking.survival` how long heads last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tracking.counts import counts_of
from tracking.errors import BadInput
from tracking.graph import Graph
from tracking.importance import importance, shift
from tracking.ledger import Analysis, Ledger, Record
from tracking.roles import SCORES, Roles
from tracking.settings import Settings
from tracking.stability import Thresholds, interval, resamples, verdicts
from tracking.states import carried, cohorts, fates, states

MOVED = ("moved_q", "moved_k", "moved_v", "moved_o", "moved")  # as `tracking.weights.CHANGES`
GROWTHS = ("amplified", "damped")


@dataclass(frozen=True)
class Timeline:
    """What a run's records say of its heads; `docs/timeline.md` has every column in a line.

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
    - `fate`: `survivor` or `transient` for a head that ever emerged in the run, else empty; the
      only column that a later checkpoint can change, and the same at all steps
    - `role`, what the head mostly does, in a word (`tracking.roles.Roles.main`), and every score of
      `tracking.roles.SCORES` as `role_<name>`
    - `moved_q`, `moved_k`, `moved_v`, `moved_o`, `moved`: relative change of its slices of the
      weights, and of all four, since the base (`tracking.weights`); missing where not known

    `counts` has one row per kind and step:

    - the step's `reward` and its name, how many `probes`, how many heads are in each state
      (`emergent` counts all active heads that are no base heads)
    - `<name>_low` and `<name>_high` of `active`, `emergent`, `new`, `pruned` and `surviving`: 95 %
      over bootstrap resamples of the probes, the same through all checkpoints (`counts.bounds`)
    - `turnover`: share of the heads active here or at the checkpoint before whose state changed,
      missing at the first; `null` and `null_high`: mean and 97.5 % of the same figure between two
      halves of the probes on this checkpoint
    - `turnover_converged`: the turnover, missing unless this checkpoint and the one before are
      both `converged`
    - `edge_turnover`, `mlp_turnover`: of the circuit's edges, and of the MLPs that write along one:
      share of those in the circuit here or at the checkpoint before that are not in both; of the
      circuits as they were recorded, whatever their verdict
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
            counts_of(records, kind, of_kind, thresholds)
            for kind, of_kind in zip(kinds, heads, strict=True)
        ]
        return cls(
            records, pd.concat(heads, ignore_index=True), pd.concat(counts, ignore_index=True)
        )

    @classmethod
    def read(cls, run: Path) -> Timeline:
        """The timeline of a run's folder, judged by the thresholds that the run was made with.

        Raises `BadInput` where there is no such run, no ledger in it or no record in that.
        """
        ledger = Ledger(run / "heads")
        if not run.is_dir():
            raise BadInput(f"{run}: no such run")
        records = ledger.records()
        if not records:
            raise BadInput(f"{ledger.folder} has no records; sparks track {run} makes them")
        try:
            thresholds = Settings(**records[-1].settings).thresholds  # type: ignore[arg-type]
        except TypeError as error:
            raise BadInput(f"{ledger.path(records[-1].step)}: its settings: {error}") from None
        return cls.of(records, thresholds)

    @property
    def kinds(self) -> list[str]:
        """The kinds of probes, the main one first."""
        return list(self.records[0].analyses)

    def of_kind(self, kind: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The rows of `heads` and of `counts` of one kind of probe; `BadInput` for others."""
        if kind not in self.kinds:
            raise BadInput(f"no probes of kind {kind!r}; there are {', '.join(self.kinds)}")
        return self.heads[self.heads["kind"] == kind], self.counts[self.counts["kind"] == kind]

    def at(self, step: int, kind: str) -> pd.DataFrame:
        """The heads at one step, in the graph's order."""
        return self.heads[(self.heads["step"] == step) & (self.heads["kind"] == kind)]


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
        "fate": np.tile(fates(active), len(records)),
    }
    beside = pd.concat(
        [_roles_and_weights(graph, record.analyses[kind]) for record in records], ignore_index=True
    )
    return pd.concat([pd.DataFrame(places), frame, pd.DataFrame(later), beside], axis=1)


def _roles_and_weights(graph: Graph, analysis: Analysis) -> pd.DataFrame:
    """One row a head: `role` and a `role_` column for every score, and how far its weights moved.

    Of the checkpoint alone, also of heads that are not active.
    """
    roles = Roles.of(graph.head_names, analysis.roles)
    return pd.DataFrame(
        {
            "role": roles.main,
            **{f"role_{name}": roles.scores[name].numpy() for name in SCORES},
            **dict(zip(MOVED, analysis.weights.numpy(), strict=True)),
        }
    )
