"""How long emergent heads last, cohort by cohort and as a curve."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays

from tests.builders.timelines import records_from
from tracking.timeline.survival import COHORTS, CURVE, cohort_table, survival
from tracking.timeline.timeline import Timeline

histories = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=7))
LIVES = [  # by head, at steps 0, 10, ...
    "#.####",  # a base head: in no cohort
    ".#####",  # 10: there to the end, at risk for 40
    ".##.##",  # 10: pruned after 20, though revived
    ".#....",  # 10: pruned after 10
    "..##..",  # 20: pruned after 20
    "...###",  # 30: there to the end, at risk for 20
    ".....#",  # 50: at risk for 0
    "......",
]


def lives(rows: list[str]) -> pd.DataFrame:
    return Timeline.of(records_from(rows)).nodes


def test_a_cohort_s_rows_say_how_many_of_it_are_left() -> None:
    wanted = [
        (10, 10, 3, 3), (10, 20, 2, 3), (10, 30, 1, 3), (10, 40, 2, 3), (10, 50, 2, 3),
        (20, 20, 1, 1), (20, 30, 1, 1), (20, 40, 0, 1), (20, 50, 0, 1),
        (30, 30, 1, 1), (30, 40, 1, 1), (30, 50, 1, 1),
        (50, 50, 1, 1),
    ]  # fmt: skip
    table = cohort_table(lives(LIVES), "cue")
    assert list(table) == list(COHORTS)
    assert list(table.itertuples(index=False, name=None)) == wanted


def test_the_survival_curve_is_what_a_hand_computes() -> None:
    """Of six heads one ends at 0 unpruned; one of five is pruned at 10, two of four at 20, where
    another one's time ends; the last one's at 40."""
    curve = survival(lives(LIVES), "cue")
    assert list(curve) == list(CURVE)
    assert curve["time"].tolist() == [0, 10, 20, 40]
    assert curve["at_risk"].tolist() == [6, 5, 4, 1]
    assert curve["survival"].tolist() == pytest.approx([1, 4 / 5, 2 / 5, 2 / 5])
    # exp(-exp(log(-log S) -+ 1.96 s)), s^2 = sum of d / (n (n - d)) / (log S)^2
    greenwood = np.array([1 / 20, 1 / 20 + 2 / 8])
    logs = np.log([4 / 5, 2 / 5])
    half = 1.959964 * np.sqrt(greenwood) / np.abs(logs)
    for name, sign in (("low", 1), ("high", -1)):
        wanted = np.exp(-np.exp(np.log(-logs) + sign * half))
        assert curve[name].tolist()[1:3] == pytest.approx(wanted, rel=1e-5)
    assert curve[["low", "high"]].iloc[0].isna().all()


def test_heads_that_all_last_survive_and_have_no_interval() -> None:
    curve = survival(lives([".###", "..##"]), "cue")
    assert curve["time"].tolist() == [0, 10, 20]
    assert curve["survival"].tolist() == [1, 1, 1]
    assert curve["at_risk"].tolist() == [2, 2, 1]
    assert curve[["low", "high"]].isna().all(axis=None)


@pytest.mark.parametrize("rows", [["...", "..."], ["###", "#.#"], ["#", "."]])
def test_where_nothing_emerged_there_is_no_row(rows: list[str]) -> None:
    curve, table = survival(lives(rows), "cue"), cohort_table(lives(rows), "cue")
    assert curve.empty and list(curve) == list(CURVE)
    assert table.empty and list(table) == list(COHORTS)


@settings(max_examples=30)
@given(histories)
def test_the_curve_is_the_product_limit_and_the_cohorts_add_up(active: np.ndarray) -> None:
    rows = ["".join(np.where(one, "#", ".")) for one in active.T]
    timeline = Timeline.of(records_from(rows))
    curve, table = survival(timeline.nodes, "cue"), cohort_table(timeline.nodes, "cue")
    ages: list[tuple[int, bool]] = []  # of each emergent head: steps at risk, pruned after them
    for row in active.T[~active[0]].tolist():
        if True in row:
            since = row[row.index(True) :]
            pruned = False in since
            ages.append((10 * (since.index(False) if pruned else len(since) - 1), pruned))
    share = 1.0
    for time, result, number in curve[["time", "survival", "at_risk"]].to_numpy().tolist():
        at_risk = sum(age >= time for age, _ in ages)
        share *= 1 - sum(pruned and age == time for age, pruned in ages) / at_risk
        assert result == pytest.approx(share)
        assert number == at_risk
    known = curve.dropna()
    assert ((known["low"] >= 0) & (known["high"] <= 1)).all()
    assert ((known["low"] <= known["survival"]) & (known["survival"] <= known["high"])).all()

    counts = timeline.counts.set_index("step")
    left = table.groupby("step")["left"].sum().reindex(counts.index, fill_value=0)
    assert left.tolist() == counts["emergent"].tolist()
    firsts = table[table["cohort"] == table["step"]]
    assert firsts["left"].tolist() == firsts["size"].tolist()
    assert firsts["size"].tolist() == [n for n in counts["new"].tolist() if n]
    assert firsts["size"].sum() == len(ages)
    assert (table["left"] <= table["size"]).all()


def test_kinds_have_lives_of_their_own_and_survive_the_disk(tmp_path: Path) -> None:
    first, second = lives(LIVES), lives(["..", ".#"]).assign(contrast="other")
    pd.concat([first, second]).to_parquet(tmp_path / "timeline.parquet", index=False)
    both = pd.read_parquet(tmp_path / "timeline.parquet")
    for make in (survival, cohort_table):
        pd.testing.assert_frame_equal(make(both, "cue"), make(first, "cue"))
        pd.testing.assert_frame_equal(make(both, "other"), make(second, "other"))
    assert cohort_table(both, "other").to_numpy().tolist() == [[10, 10, 1, 1]]
