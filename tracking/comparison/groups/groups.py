"""Groups of runs: every figure with its interval over runs, and what groups differ in.

Runs are what varies: two seeds of one recipe differ by more than two resamples of the pairs. Where
groups share bases, what bases differ in falls out: runs of one base and seed are a pair, or else
those of one base (their mean). Seeds say what other seeds would do, not what other bases would.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from tracking.comparison.groups.figures import Run, figures
from tracking.comparison.groups.means import Mean, difference, mean
from tracking.comparison.section import Section
from tracking.stability.changes import discoveries
from tracking.timeline.activity import Thresholds
from tracking.timeline.summary import Figure

FEWEST = 2  # pairs that can be compared
PLACES = ["contrast", "figure"]
PAIRED = ("start", "base")  # by what runs are paired, the first that groups share


def groups_section(groups: Mapping[str, Sequence[Run]], thresholds: Thresholds) -> Section:
    """Of groups of runs by their names."""
    table = run_table(groups)
    levels, between = group_table(table), difference_table(table, thresholds)
    sentences = [_design(table, one, other) for one, other in combinations(groups, 2)]
    sentences += _unlike(groups)
    sentences += list(_sentences(between))
    tables = {"runs": table, "groups": levels, "group_differences": between}
    return Section("Groups of runs", sentences, tables, _shown(levels))


def run_table(groups: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """One row a run and figure: `group`, `run`, `base`, `start` (base and seed), and the columns of
    `figures`."""
    parts = []
    for name, runs in groups.items():
        for run in runs:
            base = run.base or f"of {run.name}"
            start = f"{base}, {run.name if run.seed is None else f'seed {run.seed}'}"
            parts.append(figures(run).assign(group=name, run=run.name, base=base, start=start))
    return pd.concat(parts, ignore_index=True)


def group_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row a contrast, figure and group: the mean over `runs` with its 95 % interval."""
    rows = []
    for (contrast, figure, group), each in table.groupby([*PLACES, "group"], sort=False):
        of_group = mean(each["value"].to_numpy())
        rows.append({"contrast": contrast, "figure": figure, "group": group,
                     "runs": int(each["value"].notna().sum()), "mean": of_group.value,
                     "low": of_group.low, "high": of_group.high})  # fmt: skip
    return pd.DataFrame(rows)


def difference_table(table: pd.DataFrame, thresholds: Thresholds) -> pd.DataFrame:
    """One row a contrast, figure and two groups: the mean in `group` less that in `against` with
    its 95 % interval over runs, by what runs are `paired` ("start", "base" or nothing), `runs`
    (pairs, or runs of both), p, `smallest`, the true difference that so many runs would have shown
    at 80 % by an uncorrected test at 0.05, and whether it `differs`: after Benjamini and Hochberg
    over all rows and, of shares, by at least the threshold."""
    rows = []
    names = list(dict.fromkeys(table["group"]))
    for (contrast, figure), each in table.groupby(PLACES, sort=False):
        for against, group in combinations(names, 2):
            before, now = (each[each["group"] == name] for name in (against, group))
            by, paired, runs = compared(before, now)
            rows.append({"contrast": contrast, "figure": figure, "group": group,
                         "against": against, "difference": by.value, "low": by.low,
                         "high": by.high, "paired": paired, "runs": runs, "p": by.p,
                         "smallest": by.smallest})  # fmt: skip
    out = pd.DataFrame(rows)
    known = out["p"].notna().to_numpy()
    differs = np.zeros(len(out), dtype=bool)
    differs[known] = discoveries(out["p"].to_numpy()[known], thresholds.error)
    small = out["figure"].str.startswith("share") & (out["difference"].abs() < thresholds.share)
    return out.assign(differs=differs & ~small)


def compared(before: pd.DataFrame, now: pd.DataFrame) -> tuple[Mean, str, int]:
    """The difference of two groups in one figure, by what it is paired, over how many pairs or
    runs."""
    for by in PAIRED:
        means = [one.dropna(subset="value").groupby(by)["value"].mean() for one in (before, now)]
        shared = means[0].index.intersection(means[1].index)
        if len(shared) >= FEWEST:
            return mean((means[1][shared] - means[0][shared]).to_numpy()), by, len(shared)
    values = [one["value"].to_numpy() for one in (now, before)]
    return difference(*values), "", int(sum((~np.isnan(one)).sum() for one in values))


def _design(table: pd.DataFrame, one: str, other: str) -> str:
    """How two groups are compared."""
    groups = [table[table["group"] == name] for name in (one, other)]
    runs = [group["run"].nunique() for group in groups]
    begin = f"{other} ({runs[1]} runs) and {one} ({runs[0]})"
    for by, what in zip(PAIRED, ("base and seed", "base"), strict=True):
        shared = {*groups[0][by]} & {*groups[1][by]}
        if len(shared) >= FEWEST:
            bases = table[table[by].isin(shared)]["base"].nunique()
            left = len({*groups[0][by], *groups[1][by]}) - len(shared)
            rest = f"; runs of {left} others are left out" if left else ""
            return f"{begin} are paired by {what}: {len(shared)} pairs of {bases} bases{rest}."
    why = "one base" if {*groups[0]["base"]} & {*groups[1]["base"]} else "no base"
    return f"{begin} are not paired: they share {why}."


def _unlike(groups: Mapping[str, Sequence[Run]]) -> list[str]:
    """What runs of one comparison should have in common and have not."""
    runs = [run.timeline.counts for of_group in groups.values() for run in of_group]
    numbers = sorted({int(count) for counts in runs for count in counts["pairs"]})
    if len(numbers) == 1:
        return []
    each = ", ".join(map(str, numbers))
    return [f"Runs were tracked on different numbers of pairs ({each}), which blur figures unlike."]


def _sentences(between: pd.DataFrame) -> Iterator[str]:
    """A sentence for each difference; one for all others, with the least that would have shown."""
    for contrast, rows in between.groupby("contrast", sort=False):
        of = f"On {contrast!r} pairs" if contrast else "Of the runs"
        for _, row in rows[rows["differs"]].iterrows():
            size = Figure(row["difference"], row["low"], row["high"])
            word, by = ("higher", size) if row["difference"] > 0 else ("lower", size.turned)
            yield (
                f"{of} {row['figure']} is {word} in {row['group']} than in "
                f"{row['against']} by {by}, over {row['runs']} runs."
            )
        rest = rows[~rows["differs"] & (rows["smallest"] > 0)]
        if len(rest):
            each = (
                f"{row['group']} against {row['against']} {row['smallest']:.2g}"
                for _, row in rest[rest["figure"] == "behaviour"].iterrows()
            )
            least, other = ", ".join(each), "other " * bool(rows["differs"].any())
            yield (
                f"{of} no {other}difference is shown. What so few runs would have "
                "shown in four of five studies, by a test of one figure at 0.05, uncorrected, "
                "is `smallest` in group_differences.csv"
                f"{f': of the behaviour, {least}' if least else ''}."
            )


def _shown(levels: pd.DataFrame) -> pd.DataFrame:
    """A row a figure, a column a group; what is no contrast's first."""
    cells = levels.assign(
        cell=[
            "-" if np.isnan(value) else str(Figure(value, low, high))
            for value, low, high in levels[["mean", "low", "high"]].to_numpy(float)
        ]
    )
    order = list(dict.fromkeys(levels["group"]))
    wide = cells.pivot(index=PLACES, columns="group", values="cell")[order]
    places = levels[PLACES].drop_duplicates()
    rows = sorted(places.itertuples(index=False, name=None), key=lambda place: place[0] != "")
    return wide.loc[rows].fillna("-").reset_index()
