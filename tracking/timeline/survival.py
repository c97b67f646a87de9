"""How long emergent heads last: cohort by cohort, and as a survival curve.

Both start from the rows of `Timeline.nodes` (or `timeline.parquet`). A head's cohort is the first
step at which it is active after it was inactive at step 0; its life ends at the first checkpoint at
which it is `pruned`, also where it is revived later. Checkpoints are all one sees: a head was
pruned somewhere between the one before and that one.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from scipy import stats

COHORTS = ("cohort", "step", "left", "size")
CURVE = ("time", "survival", "low", "high", "at_risk")


def cohort_table(nodes: pd.DataFrame, contrast: str) -> pd.DataFrame:
    """One row per cohort and step since: `cohort`, `step`, `left`, how many of the cohort's heads
    are active at that step, `size`, how many it has. Revived heads count as left; a cohort's first
    row has all. No row where nothing emerged."""
    rows = _heads(nodes, contrast)
    rows = rows[rows["cohort"].notna()]
    table = rows.groupby(["cohort", "step"], as_index=False).agg(
        left=("active", "sum"), size=("active", "size")
    )
    return table[list(COHORTS)].astype(int)


def survival(nodes: pd.DataFrame, contrast: str) -> pd.DataFrame:
    """The share of emergent heads not yet pruned, by training steps since their cohort.

    Kaplan and Meier 1958: `time`, `survival` from that time on, its 95 % interval `low` and
    `high`, and `at_risk`, how many heads were seen that long without being pruned before. Heads
    never pruned are right-censored at the last checkpoint. The interval is Greenwood's on the
    log-log scale, which stays within 0 and 1; it takes heads for independent and is missing where
    survival is 1 or 0, where the formula has no width. No row where nothing emerged.
    """
    ages, ended = _lives(_heads(nodes, contrast))
    if not len(ages):
        return pd.DataFrame(columns=list(CURVE), dtype=float)
    curve = stats.ecdf(stats.CensoredData(uncensored=ages[ended], right=ages[~ended])).sf
    with warnings.catch_warnings():  # that it has no interval at 1 and 0 is said above
        warnings.simplefilter("ignore", RuntimeWarning)
        bounds = curve.confidence_interval(0.95, method="log-log")
    columns = (curve.quantiles, curve.probabilities, bounds.low.probabilities,
               bounds.high.probabilities)  # fmt: skip
    table = pd.DataFrame(dict(zip(CURVE, columns, strict=False)))
    if table["time"].iloc[0] > 0:  # a curve starts where all are there
        start = pd.DataFrame({"time": [0.0], "survival": 1.0, "low": np.nan, "high": np.nan})
        table = pd.concat([start, table], ignore_index=True)
    return table.assign(at_risk=[int((ages >= time).sum()) for time in table["time"]])


def _heads(nodes: pd.DataFrame, contrast: str) -> pd.DataFrame:
    return nodes[(nodes["contrast"] == contrast) & (nodes["kind"] == "head")]


def _lives(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """float [head]: steps from cohort to the first pruning or the end; bool [head]: pruned."""
    cohort = rows.groupby("node")["cohort"].max().dropna()
    end = rows[rows["state"] == "pruned"].groupby("node")["step"].min().reindex(cohort.index)
    ended = end.notna().to_numpy(bool)
    return (end.fillna(rows["step"].max()) - cohort).to_numpy(float), ended
