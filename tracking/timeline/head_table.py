"""The states of a head over the checkpoints of a run: a pure function of its records.

At a checkpoint a head is

- **active** when its membership is at least `Thresholds.member` and its effect at least
  `Thresholds.effect`, the effect's interval clear of it;
- **inactive** when its membership is at most 1 - `member`, or its effect is surely below;
- **undecided** otherwise. It then keeps its last certain state in all counts.

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

`states` has these words as functions of bool [step, head], `counts` how many heads are in each
state, with intervals, and turnover; `survival` how long heads last.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tracking.attribution.importance import importance, shift
from tracking.ledger.record import Analysis, Record
from tracking.model.graph import Graph
from tracking.nodes.role_words import SCORES, Roles
from tracking.timeline.activity import Thresholds, activity, effects, verdict
from tracking.timeline.states import carried, cohorts, fates, states

MOVED = (
    "weight_change_q",
    "weight_change_k",
    "weight_change_v",
    "weight_change_o",
    "weight_change",
)  # as `tracking.nodes.weight_change.CHANGES`
GROWTHS = ("amplified", "damped")


def judged(graph: Graph, analysis: Analysis, thresholds: Thresholds) -> pd.DataFrame:
    """One row per head: membership, effect with interval, and `verdict` active, inactive or
    undecided, by this checkpoint alone. Where the behaviour is absent all are inactive."""
    effect, now = effects(analysis), activity(analysis, thresholds)
    state = np.select([now.active, now.inactive], ["active", "inactive"], "undecided")
    return pd.DataFrame(
        {
            "verdict": state,
            "in_circuit": analysis.circuit.circuit[graph.head_sources].any(1).numpy(),
            "membership": analysis.stability.in_circuit.float().mean(0).numpy(),
            "membership_half": analysis.stability.ensemble[0].numpy(),
            "membership_double": analysis.stability.ensemble[-1].numpy(),
            "effect": effect.mean.numpy(),
            "effect_low": effect.low.numpy(),
            "effect_high": effect.high.numpy(),
        }
    )


def head_table(records: Sequence[Record], contrast: str, thresholds: Thresholds) -> pd.DataFrame:
    """One row per step and head of a contrast, with the columns of `Timeline.heads`."""
    graph = records[0].graph
    tables = [judged(graph, record.analyses[contrast], thresholds) for record in records]
    verdicts = np.stack([table["verdict"].to_numpy(str) for table in tables])  # [step, head]
    steps = [record.step for record in records]
    active = carried(verdicts)
    first = pd.concat([tables[0]] * len(tables), ignore_index=True)
    frame = pd.concat(tables, ignore_index=True).drop(columns="verdict")
    base = np.tile(active[0], len(records))
    sign = np.where(first["effect"] < 0, -1, 1)  # a head that works against grows downwards
    now, then = (np.sort(np.stack([t["effect_low"] * sign, t["effect_high"] * sign]), axis=0)
                 for t in (frame, first))  # fmt: skip
    growth = np.select([base & (now[0] > then[1]), base & (now[1] < then[0])], GROWTHS, "")
    places = {
        "contrast": contrast,
        "step": np.repeat(steps, len(graph.head_names)),
        "head": list(graph.head_names) * len(records),
        "layer": np.tile(np.repeat(np.arange(graph.n_layers), graph.n_heads), len(records)),
        "state": states(active).ravel(),
        "active": active.ravel(),
        "undecided": (verdicts == "undecided").ravel(),
        "verdict": np.repeat(
            [verdict(record.analyses[contrast], thresholds) for record in records],
            len(graph.head_names),
        ),
    }
    ever = np.cumsum(active, axis=0)
    flows = [importance(graph, record.analyses[contrast].scores.edge_scores) for record in records]
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
        [_roles_and_weights(graph, record.analyses[contrast]) for record in records],
        ignore_index=True,
    )
    return pd.concat([pd.DataFrame(places), frame, pd.DataFrame(later), beside], axis=1)


def _roles_and_weights(graph: Graph, analysis: Analysis) -> pd.DataFrame:
    """One row a head: `role` and a `role_` column for every score, and how far its weights moved.

    Of the checkpoint alone, also of heads that are not active.
    """
    roles = Roles.of(graph.head_names, analysis.heads.roles)
    return pd.DataFrame(
        {
            "role": roles.main,
            **{f"role_{name}": roles.scores[name].numpy() for name in SCORES},
            **dict(zip(MOVED, analysis.heads.weight_change.numpy(), strict=True)),
        }
    )
