"""One row per step: behaviour, how many nodes are in each state, the circuit, the wires."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tracking.ledger.record import Analysis, Record
from tracking.stability.bootstrap import Interval, interval, resamples
from tracking.stability.sets import jaccard
from tracking.timeline.activity import Thresholds, converged, screen_error, verdict
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
    records: Sequence[Record], contrast: str, nodes: pd.DataFrame, thresholds: Thresholds
) -> pd.DataFrame:
    """One row a step, as `Timeline.counts`, from the rows of a contrast in `Timeline.nodes`."""
    rows, before = [], None
    for record, (_, now) in zip(records, nodes.groupby("step", sort=True), strict=True):
        analysis = record.analyses[contrast]
        shares = Shares.of(analysis)
        rows.append(
            {
                "contrast": contrast,
                "step": record.step,
                "reward": record.reward,
                "reward_name": record.reward_name,
                "pairs": len(analysis.nodes.corrupt),
                **_behaviour(analysis),
                **_states(now),
                **_together(analysis),
                **_turnover(record, analysis, before),
                **{name: analysis.numbers.get(name, np.nan) for name in (*NUMBERS, *WIRING)},
                "edges": int(analysis.circuit.circuit.sum()),
                "screen_error": screen_error(analysis, shares, thresholds),
                "converged": converged(analysis, thresholds),
                "verdict": verdict(analysis, shares, thresholds),
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
        out[f"{prefix}active"] = int(rows["active"].sum())
        out[f"{prefix}emergent"] = int(rows["state"].isin(EMERGENT).sum())
        out |= {f"{prefix}{state}": int((rows["state"] == state).sum()) for state in COUNTED}
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
    """Turnover of heads and of edges at the run's size, each beside its null, and the heads' with
    the interval over the same resamples at both checkpoints."""
    heads, size = record.graph.node_heads, now.circuit.size
    null = half_turnover(now, heads)
    out = {
        "turnover": np.nan,
        "turnover_low": np.nan,
        "turnover_high": np.nan,
        "null": float(null.mean()),
        "null_high": float(null.quantile(0.975)),
        "edge_turnover": np.nan,
        "edge_null": float(now.stability.edge_null.mean()),
        "edge_null_high": float(now.stability.edge_null.quantile(0.975)),
    }
    if before is None:
        return out
    then, entries = before.stability, now.stability
    edges = [(one.edge_entry <= size).flatten() for one in (then, entries)]
    out["edge_turnover"] = 1 - float(jaccard(*edges))
    if then.entries.shape == entries.entries.shape:
        drawn = [one.entries[:, heads] <= size for one in (then, entries)]
        turned = 1 - jaccard(*drawn)
        ends = Interval(turned.mean(), *turned.quantile(torch.tensor([0.025, 0.975])))
        out |= {
            "turnover": float(ends.mean),
            "turnover_low": float(ends.low),
            "turnover_high": float(ends.high),
        }
    return out


def half_turnover(analysis: Analysis, heads: Tensor) -> Tensor:
    """Float32 [split]: turnover of heads between two disjoint halves of the pairs on one
    checkpoint, at the run's size."""
    inside = analysis.stability.half_entries[..., heads] <= analysis.circuit.size
    return 1 - jaccard(inside[:, 0], inside[:, 1])
