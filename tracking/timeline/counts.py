"""One row per step: behaviour, how many nodes are in each state, the circuit, the wires."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from tracking.ledger.record import Analysis, Record
from tracking.stability.bootstrap import interval, resamples
from tracking.stability.sets import unpacked
from tracking.stability.turnover import turnover
from tracking.timeline.activity import Thresholds, converged, screen_error
from tracking.timeline.shares import Shares
from tracking.timeline.states import EMERGENT

NUMBERS = (
    "gap", "size", "faithfulness", "faithfulness_low", "faithfulness_high", "complement",
    "accuracy", "clean_accuracy", "all_edges", "no_edges", "random_size", "cpr", "cmd", "jaccard",
    "jaccard_low", "jaccard_high", "rank_correlation", "pairs_needed",
)  # fmt: skip
WIRING = (
    "wiring_kept", "wiring_kept_low", "wiring_kept_high", "wiring_null", "wiring_null_low",
    "wiring_null_high", "wiring_kept_half", "wiring_kept_half_low", "wiring_kept_half_high",
    "wiring_null_half", "wiring_null_half_low", "wiring_null_half_high", "wiring_kept_double",
    "wiring_null_double",
)  # fmt: skip
COUNTED = ("base", "retained", "faded", "new", "surviving", "revived", "pruned")


def counts_of(
    records: Sequence[Record],
    contrast: str,
    shares: Sequence[Shares],
    nodes: pd.DataFrame,
    thresholds: Thresholds,
) -> pd.DataFrame:
    """One row a step, as `Timeline.counts`, from the records' shares and the rows of a contrast in
    `Timeline.nodes`."""
    rows, before = [], None
    by_step = (rows for _, rows in nodes.groupby("step", sort=True))
    for record, of_record, now in zip(records, shares, by_step, strict=True):
        analysis = record.analyses[contrast]
        rows.append(
            {
                "contrast": contrast,
                "step": record.step,
                "stage": record.began,
                "reward": record.reward,
                "reward_name": record.reward_name,
                "pairs": len(analysis.nodes.corrupt),
                **_behaviour(analysis),
                **_states(now),
                **_together(analysis),
                **_turnover(record, analysis, before),
                **{name: analysis.numbers.get(name, np.nan) for name in (*NUMBERS, *WIRING)},
                "edges": int(analysis.circuit.circuit.sum()),
                "screen_error": screen_error(analysis, of_record, thresholds),
                "converged": converged(analysis, thresholds),
                "verdict": now["verdict"].iloc[0],
                "seconds": record.seconds,
            }
        )
        before = analysis
    table = pd.DataFrame(rows).astype({"reward": float, "pairs_needed": float})
    return table.astype(dict.fromkeys(WIRING, float))


def _behaviour(analysis: Analysis) -> dict[str, float]:
    result = analysis.behaviour
    growth = result.clean - result.corrupted
    weights = resamples(len(analysis.stability.entries), len(growth))
    logits, chance = interval(growth[:, None], weights), result.clean_probability
    return {
        "behaviour": float(logits.mean),
        "behaviour_low": float(logits.low),
        "behaviour_high": float(logits.high),
        "probability": float((chance - result.corrupted_probability).mean()),
        "clean": float(chance.mean()),
        "corrupted": float(result.corrupted_probability.mean()),
    }


def _states(nodes: pd.DataFrame) -> dict[str, int]:
    """How many heads, and how many MLPs, are in each state."""
    out = {}
    for kind, prefix in (("head", ""), ("mlp", "mlps_")):
        rows = nodes[nodes["kind"] == kind]
        states = Counter(rows["state"])
        out[f"{prefix}active"] = int(rows["active"].sum())
        out[f"{prefix}emergent"] = sum(states[state] for state in EMERGENT)
        out |= {f"{prefix}{state}": states[state] for state in COUNTED}
        out[f"{prefix}undecided"] = int(rows["undecided"].sum())
        out[f"{prefix}drifted"] = int((rows["drift"] != "").sum())
    return out


def _together(analysis: Analysis) -> dict[str, float]:
    """The shares of all active nodes at once."""
    nodes, behaviour = analysis.nodes, analysis.behaviour
    whole = float((behaviour.clean - behaviour.corrupted).mean())
    if not whole or not nodes.together.any():
        return {"together_corrupt": np.nan, "together_restore": np.nan}
    return {
        "together_corrupt": float(nodes.together_corrupt.mean()) / whole,
        "together_restore": float(nodes.together_restore.mean()) / whole,
    }


def _turnover(record: Record, now: Analysis, before: Analysis | None) -> dict[str, float]:
    """Turnover of heads and of edges at the run's size, each beside its null."""
    heads, size = record.graph.node_heads, now.circuit.size
    drawn = [one and one.stability.entries[:, heads] <= size for one in (now, before)]
    same = before if before and before.circuit.size == size else None
    among = now.stability.edge_membership > 0
    if same:
        among |= same.stability.edge_membership > 0
    edges = turnover(_edges(now, among), same and _edges(same, among))
    return {**turnover(*drawn), **{f"edge_{name}": value for name, value in edges.items()}}


def _edges(analysis: Analysis, among: Tensor) -> Tensor | None:
    """BoolTensor [resample, edge]: which of the edges `among` are in the circuit; None of records
    that do not keep it."""
    kept = analysis.stability
    if kept.edge_draws is None:
        return None
    return unpacked(kept.edge_membership, kept.edge_draws, len(kept.entries), among)
