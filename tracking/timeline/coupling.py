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
- It does not know of trends. Two series that both rise, or fall, through the whole run agree best
  unshifted, whatever drives them: of independent ones with a trend four times their noise, 8 in 10
  have a corrected p of 0.1 or less at 24 checkpoints, all at 160. Against the reward's `change` it
  is the 1 in 10 that it should be: believe a coupling with the reward alone only where one of the
  two has no trend.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

MINIMUM = 8  # checkpoints with a reward
LAGS = tuple(range(-3, 4))  # checkpoints by which the heads come after the reward
HEADS = ("new", "pruned", "surviving")
AGAINST = ("reward", "change")
TABLE = ("heads", "against", "lag", "correlation", "n", "p", "p_corrected")
PER_HEAD = ("head", "active", "inactive", "while_active", "while_inactive", "difference", "p", "q")
TYPICAL = (len(LAGS) + 1) // 2  # shifts that do as well as a true coupling, over lags
TIE = 1e-9  # statistics nearer than this are equal
ROUNDING = 1e-12  # a relative difference that is none


@dataclass(frozen=True)
class Hazard:
    """Whether heads are pruned when the reward turns.

    `table` has one row per checkpoint after the first: `step`, `at_risk` (heads emergent at the
    checkpoint before), `pruned` (those of them that are inactive now), `hazard` (their share,
    missing where none was at risk) and `change` of the reward since the checkpoint before.
    `correlation` is Spearman's between hazard and change over the `n` checkpoints that have both,
    `p` from circular shifts; both NaN below `MINIMUM` - 1 (the first reward has no change).
    """

    table: pd.DataFrame
    correlation: float
    p: float
    n: int

    @classmethod
    def of(cls, heads: pd.DataFrame, counts: pd.DataFrame, contrast: str) -> Hazard:
        """From a `Timeline`'s heads and counts, for one contrast."""
        reward = rewards(counts, contrast)
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
            both = _within(table, table["hazard"])
            change = both["change"].to_numpy(float)
            correlations = [
                _spearman(row, change) for row in shifts(both["hazard"].to_numpy(float))
            ]
            correlation, p = correlations[0], float(shift_p(np.array(correlations)))
        return cls(table.rename_axis("step").reset_index(), correlation, p, n)


@dataclass(frozen=True)
class Coupling:
    """What heads have to do with the reward, on the prompt pairs of one contrast.

    `table`: the cross-correlations, see `coupling`. `per_head`: see `by_head`. `hazard`: of
    pruning. `reward_name`: what was taken for the reward (of a `loss`, less is better). `note`: in
    one line what the number of checkpoints forbids to say, None where it forbids little; below
    `MINIMUM` both tables are empty and the hazard has no correlation.
    """

    table: pd.DataFrame
    per_head: pd.DataFrame
    hazard: Hazard
    reward_name: str
    note: str | None

    @classmethod
    def of(cls, heads: pd.DataFrame, counts: pd.DataFrame, contrast: str) -> Coupling:
        """From a `Timeline`'s heads and counts, for one contrast."""
        reward = rewards(counts, contrast)
        return cls(
            coupling(counts, contrast),
            by_head(heads, counts, contrast),
            Hazard.of(heads, counts, contrast),
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
    """The reward at every step of a contrast, by step, under the name that it has most often.

    Missing at step 0, where nothing was logged, and where the trainer logged only something else:
    an accuracy and a loss are not one series.
    """
    rows = counts[counts["contrast"] == contrast].set_index("step")
    logged = rows["reward"].notna()
    names = rows["reward_name"]
    name = (names[logged] if logged.any() else names).mode().iloc[0]
    return rows["reward"].astype(float).where(names == name).rename(str(name))


def change_of(reward: pd.Series) -> pd.Series:
    """Since the checkpoint before, missing where either has no reward; 0 where only rounding."""
    change = reward.diff()
    return change.mask(change.abs() <= ROUNDING * reward.abs(), 0.0)


def coupling(counts: pd.DataFrame, contrast: str) -> pd.DataFrame:
    """Cross-correlation of the number of heads with the reward, one row per pair and lag.

    Columns:

    - `heads`: the number that are `new`, `pruned` or `surviving` at a checkpoint. `pruned` are all
      that are out since they emerged, not only those that left just now (that is the hazard).
    - `against`: the `reward`, or its `change` since the checkpoint before
    - `lag`: in checkpoints. Positive: the heads come after the reward, heads(t + lag) against
      reward(t); negative: before it
    - `correlation`: Pearson's over the checkpoints where the two series overlap; NaN where either
      does not vary
    - `n`: how many these are
    - `p`: of this lag alone, from circular shifts of the heads
    - `p_corrected`: the same with each shift's largest |correlation| over all lags

    Empty where fewer than `MINIMUM` checkpoints have a reward.
    """
    reward = rewards(counts, contrast)
    if reward.count() < MINIMUM:
        return pd.DataFrame(columns=list(TABLE))
    numbers = counts[counts["contrast"] == contrast].set_index("step")[list(HEADS)]
    series = {"reward": reward, "change": change_of(reward)}
    return pd.concat(
        [
            _at_lags(numbers[heads], series[against]).assign(heads=heads, against=against)
            for heads in HEADS
            for against in AGAINST
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


def by_head(heads: pd.DataFrame, counts: pd.DataFrame, contrast: str) -> pd.DataFrame:
    """The reward while a head is active against while it is not, one row per head that was both.

    Only checkpoints with a reward count: `active` and `inactive` of them. `difference` is the mean
    reward `while_active` less that `while_inactive`; `p` from circular shifts of the head's
    history, `q` after Benjamini and Hochberg over the heads. Empty where fewer than `MINIMUM`
    checkpoints have a reward.
    """
    reward = rewards(counts, contrast)
    if reward.count() < MINIMUM:
        return pd.DataFrame(columns=list(PER_HEAD))
    active = _within(_by_step(heads, contrast, "active"), reward)
    value = reward.loc[active.index].to_numpy(float)
    rows = [
        {"head": head, **_one_head(history, value)}
        for head, history in zip(active, active.to_numpy(bool).T, strict=True)
    ]
    table = pd.DataFrame(rows, columns=list(PER_HEAD))
    table = table[(table["active"] > 0) & (table["inactive"] > 0)].reset_index(drop=True)
    q = stats.false_discovery_control(table["p"].to_numpy(float)) if len(table) else []
    return table.assign(q=q)


def _one_head(active: np.ndarray, reward: np.ndarray) -> dict[str, float]:
    known = ~np.isnan(reward)
    on, value = shifts(active)[:, known], reward[known]
    while_active, while_inactive = _mean_where(on, value), _mean_where(~on, value)
    difference = while_active - while_inactive
    return {
        "active": int(on[0].sum()),
        "inactive": int((~on[0]).sum()),
        "while_active": while_active[0],
        "while_inactive": while_inactive[0],
        "difference": difference[0],
        "p": float(shift_p(difference)),
    }


def _mean_where(chosen: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The mean of `value` [t] where `chosen` [shift, t]; NaN where nothing is."""
    count = chosen.sum(axis=1)
    return np.where(count > 0, chosen @ value / np.maximum(count, 1), np.nan)


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


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's correlation where both are known; NaN where `pearson` is."""
    known = ~np.isnan(first) & ~np.isnan(second)
    return float(pearson(stats.rankdata(first[known]), stats.rankdata(second[known])))


def _by_step(heads: pd.DataFrame, contrast: str, column: str) -> pd.DataFrame:
    """One column of a timeline's heads as [step, head]."""
    rows = heads[heads["contrast"] == contrast]
    return rows.pivot(index="step", columns="head", values=column)[rows["head"].unique()]


def _within(table: pd.DataFrame, known: pd.Series) -> pd.DataFrame:
    """The rows from the first to the last at which a series is known."""
    places = np.flatnonzero(known.notna())
    return table.iloc[places[0] : places[-1] + 1] if len(places) else table.iloc[:0]
