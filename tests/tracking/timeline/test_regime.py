"""A run accumulates or searches, by what is left of the heads that emerged and by its null."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tracking.timeline.regime import MEASURES, Regime, over_seeds


def run(
    words: Sequence[str], null: float = 0.1, contrast: str = "pairs"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A timeline's heads and counts from histories `.##.`, active where there is a #."""
    active = np.array([[letter == "#" for letter in word] for word in words]).T  # [step, head]
    rows, counts = [], []
    for step, now in enumerate(active):
        for head, history in enumerate(active[: step + 1].T):
            cohort = history.argmax() if history.any() and not history[0] else np.nan
            row = {"contrast": contrast, "step": step, "head": f"L0H{head}"}
            rows.append({**row, "active": now[head], "cohort": cohort})
        before = active[step - 1]
        changed = (now ^ before).sum() / max((now | before).sum(), 1) if step else np.nan
        counts.append({"contrast": contrast, "step": step, "turnover": changed, "null": null})
    return pd.DataFrame(rows), pd.DataFrame(counts)


def regime(words: Sequence[str], null: float = 0.1) -> Regime:
    return Regime.of(*run(words, null), "pairs")


def test_heads_that_come_and_stay_accumulate() -> None:
    found = regime(["####", ".###", "..##", "...#", "...."])
    assert (found.emerged, found.survive, found.final_over_peak) == (3, 1, 1)
    assert found.turnover == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3)
    assert found.null == pytest.approx(0.1)
    assert found.word == "accumulates"


def test_heads_that_come_and_go_search() -> None:
    found = regime(["####", ".#..", ".##.", "..#.", "...#"])
    assert (found.emerged, found.survive, found.final_over_peak) == (4, 0.25, 0.5)
    assert found.turnover == pytest.approx((2 / 3 + 2 / 4 + 3 / 4) / 3)
    assert found.turnover_over_null == pytest.approx(found.turnover / 0.1)
    assert found.word == "searches"


def test_coming_and_going_as_between_halves_of_the_pairs_is_no_search() -> None:
    assert regime(["####", ".#..", ".##.", "..#.", "...#"], null=0.8).word == "neither"


def test_a_pruned_head_that_is_back_at_the_end_survived() -> None:
    found = regime([".#.#", ".#..", ".##.", "..##"])
    assert (found.emerged, found.survive, found.final_over_peak) == (4, 0.5, 2 / 3)


def test_half_kept_is_a_search_and_somewhat_more_is_neither() -> None:
    assert regime([".##", ".#."]).word == "searches"
    assert regime([".##", ".##", ".#."]).word == "neither"
    assert regime([".##", ".##", ".##", ".#."]).word == "accumulates"


def test_base_heads_do_not_emerge() -> None:
    found = regime(["#.#.", "#...", "####"])
    assert found.word == "nothing emerged" and found.emerged == 0
    assert np.isnan(found.survive) and np.isnan(found.final_over_peak)
    assert found.turnover_over_null > 1  # they come and go all the same


@pytest.mark.filterwarnings("error")
def test_one_checkpoint_has_no_turnover() -> None:
    found = regime(["#", "."])
    assert found.word == "nothing emerged"
    assert np.isnan(found.turnover) and np.isnan(found.turnover_over_null)


def test_where_the_null_is_zero_there_is_no_ratio_but_a_word() -> None:
    found = regime(["####", ".#..", ".##.", "..#.", "...#"], null=0)
    assert np.isnan(found.turnover_over_null) and found.word == "searches"


def test_the_null_is_that_of_the_checkpoints_with_a_turnover() -> None:
    heads, counts = run([".##", "..#"])
    counts["null"] = [0.9, 0.1, 0.3]
    assert Regime.of(heads, counts, "pairs").null == pytest.approx(0.2)


def test_kinds_are_apart() -> None:
    one, two = run(["####", ".###"], contrast="sums"), run([".#..", "..#."], contrast="cues")
    heads, counts = pd.concat([one[0], two[0]]), pd.concat([one[1], two[1]])
    assert Regime.of(heads, counts, "cues") == Regime.of(*two, "cues")
    assert Regime.of(heads, counts, "sums").word == "accumulates"


def one(survive: float, turnover: float = 0.4, null: float = 0.2, final: float = 1.0) -> Regime:
    return Regime(4, survive, turnover, null, final)


def test_over_seeds_there_is_student_s_interval() -> None:
    values = [0.25, 0.5, 1.0]
    table = over_seeds([one(value) for value in values])
    assert table["measure"].tolist() == list(MEASURES)
    survive, ratio, _ = table[["mean", "low", "high", "n"]].to_numpy().tolist()
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert survive == pytest.approx([np.mean(values), low, high, 3])
    # all runs alike: an interval of no width
    assert ratio == [2, 2, 2, 3]


@pytest.mark.filterwarnings("error")
def test_one_run_has_no_interval_and_a_missing_measure_no_run() -> None:
    table = over_seeds([one(0.5, null=0)]).set_index("measure")
    assert np.array_equal(table["mean"], [0.5, np.nan, 1], equal_nan=True)
    assert table["n"].tolist() == [1, 0, 1]
    assert table[["low", "high"]].isna().to_numpy().all()
    assert over_seeds([one(0.5), one(0.7, null=0)])["n"].tolist() == [2, 1, 2]
    assert over_seeds([])["n"].tolist() == [0, 0, 0]
