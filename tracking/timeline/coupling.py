"""The reward that stands beside the heads, and whether they follow it beyond shifts in time.

The null of every figure here is the same: the heads' series is shifted against the reward's by
every number of checkpoints, what falls off the end coming back at the start. A p-value is the share
of all n shifts, that by 0 included, with a statistic at least as far from zero. It is exact where
any shift of the heads' series would have been as likely, keeps what either owes to itself, and
draws nothing at random (shifts of series: Harris, arXiv 2012.06862, who cuts where we wrap; the
largest of many statistics: Westfall and Young, 1993). Three limits:

- p is never below 1/n: below 20 checkpoints nothing reaches 0.05.
- A shift by one moves a true coupling from one lag to the next, where the correction over lags
  finds it again. The corrected p of a strong coupling is so about `TYPICAL`/n, of a perfect one up
  to `len(LAGS)`/n, and more checkpoints are all that helps.
- It does not know of trends, and nearly everything in a run has one: levels of heads that have
  nothing to do with a saturating reward correlate with it in most runs, and so do their changes,
  which all fade together as training settles. So levels are drawn and never tested, and of changes
  only their *turns*: whether a series quickens or slows at a checkpoint, the sign of its second
  difference. Turns have no trend and no size. In simulations of unrelated series (noise, walks,
  walks that fade, saturating and logistic curves) at most 5 in 100 reach p = 0.05, of nearly
  noiseless saturating curves 7; of related ones fewer are seen than a test of changes would see
  where that held. Even turns only stand beside each other: `CAVEAT` is said wherever a p is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

MINIMUM = 8  # checkpoints with a reward
LAGS = tuple(range(-3, 4))  # checkpoints by which a series comes after the reward
SERIES = ("behaviour", "active", "emergent")  # columns of counts
CAVEAT = (
    "What turns together need not cause each other, and checkpoints of one run are few: an "
    "ablation or a control run says more."
)
TABLE = ("series", "lag", "correlation", "n", "p", "p_corrected")
PER_NODE = ("node", "correlation", "n", "p", "q")
TYPICAL = (len(LAGS) + 1) // 2  # shifts that do as well as a true coupling, over lags
TIE = 1e-9  # statistics nearer than this are equal
ROUNDING = 1e-12  # a relative difference that is none


@dataclass(frozen=True)
class Hazard:
    """Whether heads are pruned when the reward turns.

    `table` has one row per checkpoint after the first: `step`, `at_risk` (heads emergent at the
    checkpoint before), `pruned` (those of them that are inactive now), `hazard` (their share,
    missing where none was at risk) and `change` of the reward since the checkpoint before.
    `correlation` is that of turns of hazard and reward over the `n` checkpoints that have both, `p`
    from circular shifts; both NaN where fewer than `MINIMUM` - 1 have hazard and change.
    """

    table: pd.DataFrame
    correlation: float
    p: float
    n: int

    @classmethod
    def of(cls, nodes: pd.DataFrame, counts: pd.DataFrame, contrast: str) -> Hazard:
        """From a `Timeline`'s nodes and counts, for one contrast."""
        reward, heads = rewards(counts, contrast), nodes[nodes["kind"] == "head"]
        emergent = _by_step(heads, contrast, "active") & _by_step(heads, contrast, "cohort").notna()
        before = emergent.shift(fill_value=False)
        at_risk, pruned = before.sum(axis=1), (before & ~emergent).sum(axis=1)
        table = pd.DataFrame(
            {
                "at_risk": at_risk,
                "pruned": pruned,
                "hazard": pruned / at_risk.where(at_risk > 0),
                "change": change_of(reward),
            }
        ).iloc[1:]
        n = int(table[["hazard", "change"]].notna().all(axis=1).sum())
        correlation = p = np.nan
        if n >= MINIMUM - 1:
            turns = table.assign(hazard=turns_of(table["hazard"]), change=turns_of(reward))
            both = _within(turns, turns["hazard"])
            change = both["change"].to_numpy(float)
            correlations = _correlations(both["hazard"].to_numpy(float), change)
            correlation, p = float(correlations[0]), float(shift_p(correlations))
        return cls(table.rename_axis("step").reset_index(), correlation, p, n)


@dataclass(frozen=True)
class Coupling:
    """What behaviour, heads and MLPs have to do with the reward, on the pairs of one contrast.

    `table`: the cross-correlations, see `coupling`. `per_node`: see `by_node`. `hazard`: of
    pruning. `reward_name`: what was taken for the reward (of a `loss`, less is better). `note`: in
    one line what the number of checkpoints forbids to say, None where it forbids little; below
    `MINIMUM` both tables are empty and the hazard has no correlation.
    """

    table: pd.DataFrame
    per_node: pd.DataFrame
    hazard: Hazard
    reward_name: str
    note: str | None

    @classmethod
    def of(cls, nodes: pd.DataFrame, counts: pd.DataFrame, contrast: str) -> Coupling:
        """From a `Timeline`'s nodes and counts, for one contrast."""
        reward = rewards(counts, contrast)
        return cls(
            coupling(counts, contrast),
            by_node(nodes, counts, contrast),
            Hazard.of(nodes, counts, contrast),
            str(reward.name),
            coupling_note(int(reward.count())),
        )


def coupling_note(checkpoints: int) -> str | None:
    """What this many checkpoints with a reward forbid to say; None where they forbid little."""
    if checkpoints < MINIMUM:
        return f"too few checkpoints ({checkpoints})"
    lowest, typical = 1 / checkpoints, TYPICAL / checkpoints
    if typical > 0.05:
        return (
            f"{checkpoints} checkpoints: no p can be below {lowest:.2g}; "
            f"corrected over lags, a strong coupling has about {typical:.2g}"
        )
    return None


def rewards(counts: pd.DataFrame, contrast: str) -> pd.Series:
    """The reward at every step of a contrast, by step, under the name that it has most often, in
    the last stage of the training.

    Missing at step 0, where nothing was logged, and where the trainer logged only something else:
    an accuracy and a loss are not one series.
    """
    rows = counts[counts["contrast"] == contrast].set_index("step")
    logged = rows["reward"].notna() & (rows["stage"] == rows["stage"].max())
    names = rows["reward_name"]
    name = (names[logged] if logged.any() else names).mode().iloc[0]
    return rows["reward"].astype(float).where(names == name).rename(str(name))


def change_of(reward: pd.Series) -> pd.Series:
    """Since the checkpoint before, missing where either has no reward; 0 where only rounding."""
    change = reward.diff()
    return change.mask(change.abs() <= ROUNDING * reward.abs(), 0.0)


def turns_of(series: pd.Series) -> pd.Series:
    """Whether it quickens (1) or slows (-1) from the change before to this one; 0 where neither but
    for rounding, missing where either change is."""
    change = change_of(series)
    turn = change.diff()
    return turn.mask(turn.abs() <= ROUNDING * series.abs(), 0.0).apply(np.sign)


def coupling(counts: pd.DataFrame, contrast: str) -> pd.DataFrame:
    """Cross-correlation of turns with the reward's, one row per series and lag.

    Columns:

    - `series`: whose turns (`turns_of`): the `behaviour`'s, or those of the number of `active` or
      of `emergent` heads
    - `lag`: in checkpoints. Positive: the series comes after the reward, its turn at t + lag
      against the reward's at t; negative: before it
    - `correlation`: Pearson's over the checkpoints where the two overlap; NaN where either does not
      vary
    - `n`: how many these are
    - `p`: of this lag alone, from circular shifts of the series
    - `p_corrected`: the same with each shift's largest |correlation| over all lags

    Empty where fewer than `MINIMUM` checkpoints have a reward.
    """
    reward = rewards(counts, contrast)
    if reward.count() < MINIMUM:
        return pd.DataFrame(columns=list(TABLE))
    numbers = counts[counts["contrast"] == contrast].set_index("step")[list(SERIES)].astype(float)
    return pd.concat(
        [
            _at_lags(turns_of(numbers[name]), turns_of(reward)).assign(series=name)
            for name in SERIES
        ],
        ignore_index=True,
    )[list(TABLE)]


def _at_lags(heads: pd.Series, reward: pd.Series) -> pd.DataFrame:
    """One row per lag; the rows before the first and after the last reward are left out."""
    inside = _within(pd.DataFrame({"heads": heads, "reward": reward}), reward)
    known, shifted = inside["reward"].to_numpy(float), shifts(inside["heads"].to_numpy(float))
    overlaps = [_overlap(shifted, known, lag) for lag in LAGS]
    correlations = np.stack([pearson(*pair) for pair in overlaps], axis=1)  # [shift, lag]
    size = _size(correlations)
    return pd.DataFrame(
        {
            "lag": LAGS,
            "correlation": correlations[0],
            "n": [int(np.isfinite(values).sum()) for _, values in overlaps],
            "p": shift_p(correlations),
            "p_corrected": _share(size.max(axis=1, keepdims=True), size[0]),
        }
    )


def _overlap(shifted: np.ndarray, reward: np.ndarray, lag: int) -> tuple[np.ndarray, np.ndarray]:
    size = max(len(reward) - abs(lag), 0)
    first = max(lag, 0)
    return shifted[:, first : first + size], reward[first - lag : first - lag + size]


def by_node(nodes: pd.DataFrame, counts: pd.DataFrame, contrast: str) -> pd.DataFrame:
    """Turns of each node's share against turns of the reward, one row a node.

    `correlation` is Pearson's over the `n` checkpoints that have both turns; `p` from circular
    shifts of the node's turns, `q` after Benjamini and Hochberg over the nodes. Nodes whose share
    does not vary have no row. Empty where fewer than `MINIMUM` checkpoints have a reward.
    """
    reward = rewards(counts, contrast)
    if reward.count() < MINIMUM:
        return pd.DataFrame(columns=list(PER_NODE))
    turns = turns_of(reward)
    shares = _by_step(nodes, contrast, "share").apply(turns_of)
    both = _within(shares.assign(_reward=turns), turns).dropna()
    value = both.pop("_reward").to_numpy(float)
    rows = [_one_node(str(node), both[node].to_numpy(float), value) for node in both]
    table = pd.DataFrame(rows, columns=list(PER_NODE)).dropna(subset=["correlation"])
    q = stats.false_discovery_control(table["p"].to_numpy(float)) if len(table) else []
    return table.reset_index(drop=True).assign(q=q)


def _one_node(node: str, moved: np.ndarray, value: np.ndarray) -> dict[str, object]:
    correlations = _correlations(moved, value)
    return {
        "node": node,
        "correlation": correlations[0],
        "n": len(value),
        "p": float(shift_p(correlations)),
    }


def shifts(series: np.ndarray) -> np.ndarray:
    """[shift, t]: a series [t] shifted circularly by every number of places, none first.

    An empty series has the one shift that is none.
    """
    size = len(series)
    return series[(np.arange(size) - np.arange(max(size, 1))[:, None]) % max(size, 1)]


def shift_p(statistics: np.ndarray) -> np.ndarray:
    """Two-sided p [...] of statistics [shift, ...] of which the first is of no shift.

    One that is missing counts as zero: a missing first has p 1.
    """
    size = _size(statistics)
    return _share(size, size[0])


def _size(statistics: np.ndarray) -> np.ndarray:
    return np.nan_to_num(np.abs(statistics))


def _share(null: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """The share of `null` [shift, ...] that reaches `observed` [...]."""
    return (null >= observed - TIE).mean(axis=0)


def pearson(rows: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each of `rows` [..., t] with `other` [t], where this is known.

    NaN where one does not vary, and of two points, through which a line always goes.
    """
    known = ~np.isnan(other)
    rows, other = rows[..., known], other[known]
    if other.size < 3 or _flat(other):
        return np.full(rows.shape[:-1], np.nan)
    flat = _flat(rows)
    rows = rows - rows.mean(axis=-1, keepdims=True)
    other = other - other.mean()
    lengths = np.linalg.norm(rows, axis=-1) * np.linalg.norm(other)
    return np.where(flat, np.nan, rows @ other / np.where(flat, 1, lengths))


def _flat(rows: np.ndarray) -> np.ndarray:
    """Whether each row [..., t] varies by no more than rounding."""
    return np.ptp(rows, axis=-1) <= ROUNDING * np.abs(rows).max(axis=-1)


def _correlations(series: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[shift]: Pearson's of a series [t], shifted in every way, with another, where known."""
    known = ~np.isnan(series) & ~np.isnan(other)
    return pearson(shifts(series[known]), other[known])


def _by_step(nodes: pd.DataFrame, contrast: str, column: str) -> pd.DataFrame:
    """One column of a timeline's nodes as [step, node]."""
    rows = nodes[nodes["contrast"] == contrast]
    return rows.pivot(index="step", columns="node", values=column)[rows["node"].unique()]


def _within(table: pd.DataFrame, known: pd.Series) -> pd.DataFrame:
    """The rows from the first to the last at which a series is known."""
    places = np.flatnonzero(known.notna())
    return table.iloc[places[0] : places[-1] + 1] if len(places) else table.iloc[:0]
