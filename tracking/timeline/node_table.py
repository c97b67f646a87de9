"""One row per step and node: the states of heads and MLPs over the checkpoints of a run.

At a checkpoint a node is

- **active** where its share of the behaviour, lost when it alone is corrupted or restored when it
  alone is clean, is surely at least `Thresholds.share` in size;
- **inactive** where both are surely below, or its scores say that it is not worth measuring;
- **undecided** otherwise.

States change only where shares do (`states.History`). They partition the nodes at every step:

    at step 0          base, inactive, undecided
    a base node later  retained, faded
    an inactive one    inactive, new, surviving, pruned, revived, emergent
    an undecided one   undecided

`new` at its cohort, the first step at which a node that was inactive is active; `surviving` as long
as it is active at every checkpoint since; `pruned` when inactive after that; `revived` when active
again after it was pruned; `emergent` as long as that lasts. `emergent` nodes in a count are all
active nodes that were inactive at step 0: new, surviving, revived and emergent.

A node that stays in its state while its share changes has `drifted`, and has `grown` or `shrunk`
where that is more than anything drifted in a control run.

All of this is blind to the future but for two columns, the same at all steps: `fate`, `survivor`
where a node that ever emerged is active at the last checkpoint, else `transient`; and `lasting`,
where the change from step 0 to the last checkpoint is more than the run's own fluctuation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tracking.attribution.importance import importance, shift
from tracking.ledger.record import Analysis, Record
from tracking.model.graph import Graph
from tracking.nodes.role_words import SCORES, Roles
from tracking.timeline.activity import Thresholds, verdict
from tracking.timeline.shares import DIRECTIONS, Shares
from tracking.timeline.states import History, cohorts, fates, states

MOVED = (
    "weight_change_q",
    "weight_change_k",
    "weight_change_v",
    "weight_change_o",
    "weight_change",
)  # as `tracking.nodes.weight_change.CHANGES`


def node_table(
    records: Sequence[Record],
    contrast: str,
    shares: Sequence[Shares],
    thresholds: Thresholds,
    level: float | None = None,
) -> pd.DataFrame:
    """One row per step and node of a contrast, with the columns of `Timeline.nodes`. `shares` are
    those of the records, `level` the largest drift of any node in a control run."""
    graph = records[0].graph
    analyses = [record.analyses[contrast] for record in records]
    history, steps = History.of(shares, thresholds), [record.step for record in records]
    count, nodes = len(records), len(graph.nodes)
    kinds = np.where(["H" in name for name in graph.nodes], "head", "mlp")
    layers = [int(name[1:].partition("H")[0]) for name in graph.nodes]
    ever = np.cumsum(history.active, axis=0)
    verdicts = [verdict(*one, thresholds) for one in zip(analyses, shares, strict=True)]
    places = pd.DataFrame(
        {
            "contrast": contrast,
            "step": np.repeat(steps, nodes),
            "node": list(graph.nodes) * count,
            "kind": np.tile(kinds, count),
            "layer": np.tile(layers, count),
            "state": states(history.active, history.unsettled).ravel(),
            "active": history.active.ravel(),
            "alone": history.verdicts.ravel(),
            "undecided": (history.verdicts == "undecided").ravel(),
            "verdict": np.repeat(verdicts, nodes),
        }
    )
    words = pd.DataFrame(
        {
            "change": history.change.ravel(),
            "drift": _drift(history, level).ravel(),
            "origin": _origin(history, shares[0].there).ravel(),
            "cohort": cohorts(history.active, steps).ravel(),
            "activations": (ever / np.arange(1, count + 1)[:, None]).ravel(),
            "fate": np.tile(fates(history.active), count),
            "lasting": np.tile(history.lasting, count),
        }
    )
    effects = [_effects(one, analysis) for one, analysis in zip(shares, analyses, strict=True)]
    circuits = [_in_circuit(graph, analysis) for analysis in analyses]
    parts = [places, pd.concat(effects, ignore_index=True), words,
             pd.concat(circuits, ignore_index=True), _flows(graph, analyses),
             pd.concat([_heads(graph, one) for one in analyses], ignore_index=True)]  # fmt: skip
    return pd.concat(parts, axis=1)


def _effects(shares: Shares, analysis: Analysis) -> pd.DataFrame:
    """One row a node: both shares with intervals, and `share`, the one that is larger in size."""
    low, high = shares.interval
    ends = {"": shares.value, "_low": low, "_high": high}
    larger = shares.larger[None]
    return pd.DataFrame(
        {
            **{f"share{end}": np.take_along_axis(v, larger, axis=0)[0] for end, v in ends.items()},
            **{
                f"{direction}{end}": value[place]
                for place, direction in enumerate(DIRECTIONS)
                for end, value in ends.items()
            },
            "measured": shares.measured,
            "sampled": analysis.nodes.sampled.numpy(),
        }
    )


def _drift(history: History, level: float | None) -> np.ndarray:
    """str [step, node]: `drifted`; against a control's level `grown` or `shrunk` where that is
    less; else empty."""
    drifted = np.where(history.drifted, "drifted", "")
    if level is None:
        return drifted
    word = np.where(history.growth > 0, "grown", "shrunk")
    return np.where(np.abs(history.growth) > level, word, drifted)


def _origin(history: History, there: bool) -> np.ndarray:
    """str [step, node]: of emergent nodes, whether step 0 had the behaviour; else empty."""
    emerged = np.logical_or.accumulate(history.active, axis=0) & ~history.active[0]
    return np.where(emerged, "recruited" if there else "with the behaviour", "")


def _in_circuit(graph: Graph, analysis: Analysis) -> pd.DataFrame:
    """One row a node: whether it writes along an edge of the circuit, the entry by all pairs, and
    its membership at the run's size."""
    stability, size = analysis.stability, analysis.circuit.size
    entry = np.nanmedian(stability.entries.numpy(), axis=0)
    return pd.DataFrame(
        {
            "in_circuit": analysis.circuit.circuit[1:].any(1).numpy(),
            "entry": entry,
            "membership": (stability.entries <= size).float().mean(0).numpy(),
        },
        index=range(len(graph.nodes)),
    )


def _flows(graph: Graph, analyses: Sequence[Analysis]) -> pd.DataFrame:
    """Importance of heads in every record, one below the other; missing for MLPs."""
    flows = [importance(graph, one.scores.edge_scores) for one in analyses]
    outgoing = np.stack([flow["importance"] for flow in flows])
    shifts = np.full(outgoing.shape, np.nan)
    shifts[1:] = shift(outgoing[:-1], outgoing[1:])
    both = np.stack([flow["importance_symmetric"] for flow in flows])
    columns = {"importance": outgoing, "importance_symmetric": both, "shift": shifts}
    return pd.DataFrame(
        {
            name: np.concatenate([_spread(graph, row) for row in rows])
            for name, rows in columns.items()
        }
    )


def _heads(graph: Graph, analysis: Analysis) -> pd.DataFrame:
    """One row a node: `role` and a `role_` column for every score, and how far its weights moved;
    missing for MLPs."""
    roles = Roles.of(graph.head_names, analysis.heads.roles)
    main = np.full(len(graph.nodes), "-", dtype=object)
    main[graph.node_heads.numpy()] = roles.main
    moved = zip(MOVED, analysis.heads.weight_change.numpy(), strict=True)
    return pd.DataFrame(
        {
            "role": main.astype(str),
            **{f"role_{name}": _spread(graph, roles.scores[name].numpy()) for name in SCORES},
            **{name: _spread(graph, values) for name, values in moved},
        }
    )


def _spread(graph: Graph, of_heads: np.ndarray) -> np.ndarray:
    """float [node] of [head]; NaN for MLPs."""
    out = np.full(len(graph.nodes), np.nan)
    out[graph.node_heads.numpy()] = of_heads
    return out


# Of which nodes a word is said, by their rows: by name, in the graph's order


def relative_nodes(
    began: pd.DataFrame, now: pd.DataFrame, before: float, after: float
) -> tuple[str, ...]:
    """Nodes that emerged though neither effect in logits, share times behaviour, is larger than at
    the first checkpoint, or faded though neither is smaller; by their rows at both and the
    behaviour `before` and `after`. A share also moves where only what it is a share of does."""
    change = (now[[*DIRECTIONS]] * after).abs() - (began[[*DIRECTIONS]] * before).abs()
    emerged = now["active"] & now["cohort"].notna() & (change <= 0).all(axis=1)
    return tuple(now.index[emerged | ((now["state"] == "faded") & (change >= 0).all(axis=1))])


def interrupted_nodes(nodes: pd.DataFrame, there: pd.DataFrame) -> tuple[str, ...]:
    """Of the nodes that are `there`, by name, those that were active before and then not."""
    rows = nodes[nodes["node"].isin(there.index)]
    active = rows.pivot(index="step", columns="node", values="active").to_numpy(bool)
    names = rows.pivot(index="step", columns="node", values="active").columns
    broken = {n for n, one in zip(names, active.T, strict=True) if not one[one.argmax() :].all()}
    return tuple(str(name) for name in there.index if name in broken)


def lapsed_nodes(nodes: pd.DataFrame) -> tuple[str, ...]:
    """By name in the graph's order, those that were active at the first checkpoint and were not at
    a later one."""
    active = nodes.pivot(index="step", columns="node", values="active").astype(bool)
    names = active.columns[active.iloc[0] & ~active.all()]
    return tuple(name for name in nodes["node"].unique() if name in set(names))


def against_nodes(carrying: pd.DataFrame, shares: Shares, least: float) -> tuple[str, ...]:
    """Of the nodes that are `carrying`, by name, those with a negative share: of the directions in
    which a node is surely active, or of both, the one in which its share is larger in size."""
    sure = shares.activity(least)[0]
    value = np.where(sure | ~sure.any(0), shares.value, 0)[:, carrying["place"]]
    larger = np.abs(value).argmax(0)
    return tuple(carrying.index[np.take_along_axis(value, larger[None], 0)[0] < 0])


def crossed_nodes(nodes: pd.DataFrame, there: pd.DataFrame) -> tuple[str, ...]:
    """Of the nodes that are `there`, by name, those whose share, in the direction in which it is
    larger today, had the other sign when they first were active."""
    active = nodes[nodes["active"] & nodes["node"].isin(there.index)]
    began = active.groupby("node")[[*DIRECTIONS]].first().loc[there.index]
    today = there[[*DIRECTIONS]]
    larger = today.abs().to_numpy().argmax(1)[:, None]
    turned = np.take_along_axis((began * today).to_numpy(), larger, 1)[:, 0] < 0
    return tuple(there.index[turned])
