"""The easier and the harder half of a benchmark: by its data set's own levels, or by sampling.

Problems that were solved before are solved less often the second time, whatever is done in between:
sorted and compared by the same responses, the easier half would lose and the harder one gain. So
what a model solves in its even-numbered samples sorts the problems, and only odd-numbered ones are
compared, under every condition: their noise is another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from train.evals.problems import Benchmark

FEWEST = 6  # problems of a half: of fewer no change could be shown, 2 / 2 ** 5 is above 0.05


@dataclass(frozen=True)
class Halves:
    """A benchmark in two.

    easier, harder: ids of problems
    by: what tells them apart, in words
    sampled: whether the even-numbered samples told, which then may not be compared; else levels
    """

    benchmark: str
    easier: frozenset[str]
    harder: frozenset[str]
    by: str
    sampled: bool

    @property
    def names(self) -> tuple[str, str]:
        """Of the easier and of the harder half, as of benchmarks."""
        return f"{self.benchmark}, easier", f"{self.benchmark}, harder"

    def __str__(self) -> str:
        """`math500: 238 easier problems (up to level 3), 262 harder`."""
        counts = f"{len(self.easier)} easier problems ({self.by}), {len(self.harder)} harder"
        return f"{self.benchmark}: {counts}"

    def rows(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The responses of `rows` that may be compared, each half as a benchmark of its own."""
        mine = rows[rows["benchmark"] == self.benchmark]
        if self.sampled:
            mine = mine[mine["sample"] % 2 == 1]
        halves = zip(self.names, (self.easier, self.harder), strict=True)
        parts = [mine[mine["problem"].isin(ids)].assign(benchmark=name) for name, ids in halves]
        return pd.concat(parts, ignore_index=True)


def in_halves(rows: pd.DataFrame, halves: Sequence[Halves]) -> pd.DataFrame:
    """The responses of `rows` that may be compared, in the halves as benchmarks."""
    return pd.concat([rows[:0], *(one.rows(rows) for one in halves)], ignore_index=True)


def halves_of(benchmark: Benchmark, rows: pd.DataFrame, whose: str) -> Halves | str:
    """The halves of a benchmark, as even as levels or shares solved allow; or, in words, why there
    are none. `rows` are responses of `whose` model as it is."""
    mine = rows[rows["benchmark"] == benchmark.name]
    levels = {problem.id: problem.level for problem in benchmark.problems}
    level = mine["problem"].map(levels)
    sampled = bool(level.isna().any())
    if sampled:
        sorting = mine[(mine["sample"] % 2 == 0) & mine["right"].notna()]
        if not (mine["sample"] % 2 == 1).any():
            return "one sample a problem cannot both sort and be compared"
        ease = sorting["right"].astype(float).groupby(sorting["problem"]).mean()
    else:
        ease = -level.groupby(mine["problem"]).first()
    if not len(ease):
        return "no response that could sort was graded"
    least = _dividing(ease.to_numpy(float))
    easier = frozenset(ease.index[ease >= least])
    harder = frozenset(ease.index[ease < least])
    if (fewest := min(len(easier), len(harder))) < FEWEST:
        return f"one would have {fewest} problems, fewer than {FEWEST}"
    much = "all" if least == 1 else f"at least {least:.0%} of"
    samples = f"solved in {much} the even-numbered samples of {whose}"
    by = samples if sampled else f"up to level {-least:.0f}"
    return Halves(benchmark.name, easier, harder, by, sampled)


def _dividing(ease: np.ndarray) -> float:
    """The value that divides these [problem] most evenly into those of at least it and the rest."""
    values = np.unique(ease)[1:] if len(np.unique(ease)) > 1 else ease[:1]
    sizes = np.array([(ease >= value).sum() for value in values])
    return float(values[np.abs(sizes - len(ease) / 2).argmin()])
