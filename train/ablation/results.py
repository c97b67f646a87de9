"""What switching nodes off did to solving, benchmark by benchmark, and whether chance would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from tracking.errors import BadInput
from train.ablation.arms import Arm, Comparison
from train.ablation.paired import (
    AgainstControls,
    Difference,
    against_controls,
    beyond_controls,
    difference,
    holm,
)

LEVEL = 0.05
FEWEST = 5  # different control sets that anything is said against
HEADS = 10  # below, the interval of a correlation over heads covers it in 62 to 84 % of draws


@dataclass(frozen=True)
class Result:
    """A comparison on one benchmark.

    on, off: accuracy, mean over the problems that were graded under every arm
    change: off less on, paired over problems
    p: that there is no change, corrected over all results of a study (Holm)
    controls: accuracy with the control sets off, and what `off` is above it, by matching; without
        those of fewer than `FEWEST` different sets
    beyond: matchings whose controls do less, after Holm over all of a study; not where they do more
    smallest: the smallest change that so many problems would show in four of five studies; NaN
        where they could show none
    """

    comparison: Comparison
    benchmark: str
    problems: int
    on: float
    off: float
    change: Difference
    p: float
    controls: dict[str, tuple[float, AgainstControls]]
    beyond: tuple[str, ...]
    smallest: float

    @property
    def row(self) -> dict[str, object]:
        """For a table."""
        row: dict[str, object] = {
            "heads": self.comparison.target.name,
            "nodes": ",".join(self.comparison.target.nodes),
            "mode": self.comparison.mode.name,
            "benchmark": self.benchmark,
            "problems": self.problems,
            "on": self.on,
            "off": self.off,
            "change": self.change.mean,
            "change_low": self.change.low,
            "change_high": self.change.high,
            "p": self.p,
            "smallest": self.smallest,
        }
        for matching, (accuracy, against) in self.controls.items():
            row |= {
                f"{matching}_sets": against.controls,
                f"{matching}_off": accuracy,
                f"{matching}_less": against.difference.mean,
                f"{matching}_less_low": against.difference.low,
                f"{matching}_less_high": against.difference.high,
                f"{matching}_p": against.difference.p,
                f"{matching}_rank_p": against.rank_p,
                f"{matching}_beyond": matching in self.beyond,
            }
        return row


@dataclass(frozen=True)
class _Raw:
    """A comparison on one benchmark before anything is corrected."""

    comparison: Comparison
    benchmark: str
    accuracy: pd.DataFrame  # [problem] by condition
    change: Difference
    against: dict[str, AgainstControls]


def results(rows: pd.DataFrame, comparisons: Sequence[Comparison]) -> list[Result]:
    """All comparisons on all benchmarks of the responses `rows` (`Study.solve`), in that order."""
    raw = [
        _compared(benchmark, accuracies(rows, benchmark), comparison)
        for comparison in comparisons
        for benchmark in rows["benchmark"].unique()
    ]
    corrected = holm(np.array([one.change.p for one in raw]))
    held = [(place, name) for place, one in enumerate(raw) for name in one.against]
    verdicts = beyond_controls([raw[place].against[name] for place, name in held], LEVEL)
    beyond = {
        (place, name)
        for (place, name), verdict in zip(held, verdicts, strict=True)
        if verdict and raw[place].change.mean * raw[place].against[name].difference.mean > 0
    }
    return [
        Result(
            comparison=one.comparison,
            benchmark=one.benchmark,
            problems=len(one.accuracy),
            on=float(one.accuracy[""].mean()),
            off=float(one.accuracy[one.comparison.arm.condition].mean()),
            change=one.change,
            p=float(p),
            controls={
                name: (mean_of(one.accuracy, one.comparison.control_arms(name)), against)
                for name, against in one.against.items()
            },
            beyond=tuple(name for name in one.against if (place, name) in beyond),
            smallest=one.change.smallest(LEVEL / len(raw)),
        )
        for place, (one, p) in enumerate(zip(raw, corrected, strict=True))
    ]


def accuracies(rows: pd.DataFrame, benchmark: str) -> pd.DataFrame:
    """Float [problem] by condition: the share of a problem's graded responses that are right.
    Problems without a graded response under some condition are left out of all."""
    here = rows[rows["benchmark"] == benchmark].assign(right=lambda one: one["right"].astype(float))
    table = here.pivot_table("right", "problem", "condition", aggfunc="mean", dropna=False)
    return table.dropna()


def held_against(
    shares: pd.DataFrame, comparison: Comparison
) -> tuple[Difference, dict[str, AgainstControls]]:
    """Off less on, and off against the control sets of every matching that has at least `FEWEST`
    different ones; `shares` are floats in [0, 1] [problem] by condition."""
    off = shares[comparison.arm.condition].to_numpy()
    against = {}
    for name in comparison.controls:
        arms = comparison.control_arms(name)
        if len(arms) >= FEWEST:
            sets = np.stack([shares[arm.condition].to_numpy() for arm in arms])
            against[name] = against_controls(off, sets)
    return difference(off, shares[""].to_numpy()), against


def mean_of(shares: pd.DataFrame, arms: Sequence[Arm]) -> float:
    """Over problems and arms."""
    return float(shares[[arm.condition for arm in arms]].to_numpy().mean())


def _compared(benchmark: str, accuracy: pd.DataFrame, comparison: Comparison) -> _Raw:
    if len(accuracy) < 2:
        raise BadInput(
            f"{benchmark}: problems with a graded response under every condition: {len(accuracy)}, "
            "a comparison needs at least 2; leave it out, the responses are kept"
        )
    return _Raw(comparison, benchmark, accuracy, *held_against(accuracy, comparison))


@dataclass(frozen=True)
class Prediction:
    """Whether heads that carry more of the behaviour on prompt pairs matter more for solving:
    Spearman's correlation over heads, of the size of the share that each loses when corrupted and
    the accuracy that is lost when it alone is off, with a 95 % bootstrap interval over heads."""

    benchmark: str
    mode: str
    heads: int
    value: float
    low: float
    high: float


def predictions(
    each: Sequence[Result], shares: pd.Series, resamples: int = 2000
) -> list[Prediction]:
    """Of results of single heads; `shares` [head] by name. A benchmark on which fewer than `HEADS`
    heads were tried, or no head changes anything, has none."""
    out = []
    for key in dict.fromkeys((one.benchmark, one.comparison.mode) for one in each):
        mine = [one for one in each if (one.benchmark, one.comparison.mode) == key]
        heads = [one.comparison.target.nodes[0] for one in mine]
        lost = np.array([-one.change.mean for one in mine])
        share = shares.reindex(heads).abs().to_numpy()
        if len(mine) < HEADS or not np.ptp(lost) or not np.ptp(share):
            continue
        drawn = np.random.default_rng(0).integers(len(mine), size=(resamples, len(mine)))
        values = [_spearman(share[draw], lost[draw]) for draw in drawn]
        low, high = np.nanquantile(values, [0.025, 0.975])
        value = _spearman(share, lost)
        out.append(Prediction(key[0], key[1].name, len(mine), value, float(low), float(high)))
    return out


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    """NaN where one of them does not vary."""
    if not np.ptp(one) or not np.ptp(other):
        return float("nan")
    ranks = (stats.rankdata(values) for values in (one, other))
    return float(np.corrcoef(*ranks)[0, 1])
