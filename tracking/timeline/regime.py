"""Whether a run accumulates heads or searches among them: three figures, and with enough heads a
word for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

MEASURES = ("survive", "turnover_over_null", "final_over_peak")
FEWEST = 5  # emergent heads; of fewer no word is said
CHANCE = 0.5  # the null: an emergent head is as likely gone at the end as there


@dataclass(frozen=True)
class Regime:
    """What became of the heads that emerged in a run, on the prompt pairs of one contrast.

    The word is

    - `too few heads` where fewer than `FEWEST` emerged before the last checkpoint
    - `accumulates` where more of them are there at the end, by a change that lasts, than a coin for
      each would leave (exact binomial test, 5 %): of heads whose shares only wander most are still
      where they went last
    - `searches` where fewer are, and turnover is above its null, so that the coming and going is
      not that of a ranking by other pairs
    - `neither` otherwise

    A head that emerged at the last checkpoint has survived nothing yet. It counts in `survive` all
    the same, which is somewhat high where heads still emerge at the end, but not for the word.
    """

    emerged: int  # heads that were ever emergent
    survive: float  # share of them that are emergent at the end; NaN where there are none
    turnover: float  # mean over the checkpoints after the first; NaN where there are none
    null: float  # the mean of its null over the same checkpoints
    final_over_peak: float  # emergent heads at the end, over the most at any checkpoint; or NaN
    tried: int  # heads that emerged before the last checkpoint
    left: int  # of these, emergent at the end
    lasting: int  # of these, changed for more than the run's own fluctuation

    @classmethod
    def of(cls, nodes: pd.DataFrame, counts: pd.DataFrame, contrast: str) -> Regime:
        """From a `Timeline`'s nodes and counts, for one contrast."""
        rows = nodes[(nodes["contrast"] == contrast) & (nodes["kind"] == "head")]
        numbers = counts[counts["contrast"] == contrast]
        emergent = rows[rows["active"].astype(bool) & rows["cohort"].notna()]
        ever = emergent["node"].nunique()
        end = emergent[emergent["step"] == rows["step"].max()]
        tried = emergent[emergent["cohort"] < rows["step"].max()]["node"].unique()
        kept = end[end["node"].isin(tried)]
        peak = int(emergent.groupby("step").size().max()) if ever else 0
        later = numbers.dropna(subset=["turnover", "null"])
        return cls(
            ever,
            len(end) / ever if ever else np.nan,
            float(later["turnover"].mean()),
            float(later["null"].mean()),
            len(end) / peak if peak else np.nan,
            len(tried),
            len(kept),
            int(kept["lasting"].sum()),
        )

    @property
    def turnover_over_null(self) -> float:
        """Above 1, more heads come and go than between halves of the pairs; NaN without null."""
        return self.turnover / self.null if self.null > 0 else np.nan

    @property
    def word(self) -> str:
        """`accumulates`, `searches`, `neither` or `too few heads`."""
        if self.tried < FEWEST:
            return "too few heads"
        if _beyond_a_coin(self.lasting, self.tried, "greater"):
            return "accumulates"
        gone = _beyond_a_coin(self.left, self.tried, "less")
        return "searches" if gone and self.turnover > self.null else "neither"


def _beyond_a_coin(heads: int, of: int, side: str) -> bool:
    return bool(stats.binomtest(heads, of, CHANCE, alternative=side).pvalue <= 0.05)


def over_seeds(regimes: Sequence[Regime]) -> pd.DataFrame:
    """The mean over runs of each measure, one row each: `measure`, `mean`, `low`, `high`, `n`.

    `low` and `high` are Student's 95 % interval of the mean, not cut to where a share can lie, and
    missing where fewer than two runs have the measure; `n` is how many have.
    """
    return pd.DataFrame(
        [
            {"measure": measure, **_mean(np.array([getattr(one, measure) for one in regimes]))}
            for measure in MEASURES
        ]
    )


def _mean(values: np.ndarray) -> dict[str, float]:
    known = values[~np.isnan(values)] if len(values) else values
    mean = float(known.mean()) if len(known) else np.nan
    half = np.nan
    if len(known) > 1:
        half = float(stats.t.ppf(0.975, len(known) - 1) * stats.sem(known))
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": len(known)}
