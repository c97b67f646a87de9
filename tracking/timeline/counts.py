"""How many heads are in each state, checkpoint by checkpoint, and how many came and went."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import numpy as np
import pandas as pd

from tracking.ledger.record import Analysis, Record
from tracking.stability.bootstrap import resamples
from tracking.timeline.activity import Thresholds, converged, null_turnover, verdict
from tracking.timeline.states import ACTIVE, EMERGENT, STATES, coded

NUMBERS = (
    "clean", "corrupted", "gap", "faithfulness", "faithfulness_low", "faithfulness_high",
    "complement", "accuracy", "clean_accuracy", "cpr", "cmd", "jaccard", "jaccard_low",
    "jaccard_high", "rank_correlation", "pairs_needed",
)  # fmt: skip
COUNTED = ("retained", "faded", "new", "surviving", "revived", "pruned")
BOUNDED = {
    "active": ACTIVE,
    "emergent": EMERGENT,
    "new": ("new",),
    "pruned": ("pruned",),
    "surviving": ("surviving",),
}  # counts that have an interval, by the states they count


def counts_of(
    records: Sequence[Record], contrast: str, heads: pd.DataFrame, thresholds: Thresholds
) -> pd.DataFrame:
    """One row a step, as `Timeline.counts`, from the rows of a contrast in `Timeline.heads`."""
    rows, before = [], None
    for index, record in enumerate(records):
        now = heads[heads["step"] == record.step]
        analysis = record.analyses[contrast]
        earlier = None if before is None else records[index - 1].analyses[contrast]
        active = now["active"].to_numpy(bool)
        turnover = np.nan if before is None else turned_over(before, active)
        integrals = [one is not None and converged(one, thresholds) for one in (earlier, analysis)]
        null = null_turnover(analysis, thresholds)
        rows.append(
            {
                "contrast": contrast,
                "step": record.step,
                "reward": record.reward,
                "reward_name": record.reward_name,
                "pairs": len(analysis.heads.effect),
                "active": int(active.sum()),
                "emergent": int(now["state"].isin(EMERGENT).sum()),
                **{state: int((now["state"] == state).sum()) for state in COUNTED},
                "undecided": int(now["undecided"].sum()),
                "turnover": turnover,
                "turnover_converged": turnover if all(integrals) else np.nan,
                "null": float(null.mean()),
                "null_high": float(null.quantile(0.975)),
                **_rewired(record, analysis, earlier),
                **{name: analysis.numbers[name] for name in NUMBERS},
                "converged": integrals[-1],
                "verdict": verdict(analysis, thresholds),
                "seconds": record.seconds,
            }
        )
        before = active
    table = pd.DataFrame(rows).astype({"reward": float, "pairs_needed": float})
    analyses = [record.analyses[contrast] for record in records]
    return pd.concat([table, bounds(analyses, thresholds)], axis=1)


def turned_over(before: np.ndarray, now: np.ndarray) -> float:
    """Share of what is in either bool [...] that is not in both; 0 where both are empty."""
    return int((before ^ now).sum()) / max(int((before | now).sum()), 1)


def _rewired(record: Record, now: Analysis, before: Analysis | None) -> dict[str, float]:
    """Turnover of the circuit's edges, and of the MLPs that write along one."""
    if before is None:
        return {"edge_turnover": np.nan, "mlp_turnover": np.nan}
    mlps = [record.graph.mlp_row(layer) for layer in range(record.n_layers)]
    old, new = before.circuit.circuit, now.circuit.circuit
    return {
        "edge_turnover": turned_over(old.numpy(), new.numpy()),
        "mlp_turnover": turned_over(old[mlps].any(1).numpy(), new[mlps].any(1).numpy()),
    }


def bounds(analyses: Sequence[Analysis], thresholds: Thresholds) -> pd.DataFrame:
    """One row a checkpoint: `<name>_low` and `<name>_high` for every name of `BOUNDED`, the 95 %
    percentiles of the count over bootstrap resamples, each one followed through all checkpoints.

    A resample has no interval of its own, so in it a head is active or it is not: none is
    undecided and carried. So heads at the threshold come and go more than in the counts, which can
    lie outside: `pruned` below, `surviving` above. Missing from the first checkpoint on whose
    resamples are not those of the ones before (another number of them or of pairs), so that a
    later checkpoint never changes an earlier row.
    """
    sizes = [(len(one.stability.in_circuit), len(one.heads.effect)) for one in analyses]
    same = len(list(takewhile(lambda size: size == sizes[0], sizes)))
    out = {
        f"{name}_{end}": np.full(len(sizes), np.nan) for name in BOUNDED for end in ("low", "high")
    }
    codes = coded(np.stack([drawn(one, thresholds) for one in analyses[:same]]))
    for name, wanted in BOUNDED.items():
        number = np.isin(STATES, wanted)[codes].sum(-1)  # [step, resample]
        low, high = np.quantile(number, [0.025, 0.975], axis=1)
        out[f"{name}_low"][:same], out[f"{name}_high"][:same] = low, high
    return pd.DataFrame(out)


def drawn(analysis: Analysis, thresholds: Thresholds) -> np.ndarray:
    """bool [resample, head]: active by one resample of the pairs alone, which is to stand in its
    circuit with a mean effect beyond the threshold. None where the behaviour is absent."""
    if verdict(analysis, thresholds) == "absent":
        return np.zeros(tuple(analysis.stability.in_circuit.shape), dtype=bool)
    inside, per_pair = analysis.stability.in_circuit, analysis.heads.effect
    effect = resamples(len(inside), len(per_pair)) @ per_pair
    return (inside & (effect.abs() >= thresholds.effect)).numpy()
