"""A run accumulates or searches, by what is left of the heads that emerged and by its null."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tracking.timeline.regime import MEASURES, Regime, over_seeds

STAY = ["....", ".###", ".###", "..##", "..##", "..##"]
LEAVE = ["....", ".#..", ".#..", "..#.", "..#.", ".##."]


def run(
    words: Sequence[str], null: float = 0.1, contrast: str = "cue", lasting: bool = True
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A timeline's nodes and counts from histories `.##.`, active where there is a #."""
    active = np.array([[letter == "#" for letter in word] for word in words]).T  # [step, head]
    rows, counts = [], []
    for step, now in enumerate(active):
        for head, history in enumerate(active[: step + 1].T):
            cohort = history.argmax() if history.any() and not history[0] else np.nan
            row = {"contrast": contrast, "step": step, "node": f"L0H{head}", "kind": "head"}
            rows.append({**row, "active": now[head], "cohort": cohort, "lasting": lasting})
        before = active[step - 1]
        changed = (now ^ before).sum() / max((now | before).sum(), 1) if step else np.nan
        counts.append({"contrast": contrast, "step": step, "turnover": changed, "null": null})
    return pd.DataFrame(rows), pd.DataFrame(counts)


def regime(words: Sequence[str], null: float = 0.1, lasting: bool = True) -> Regime:
    return Regime.of(*run(words, null, lasting=lasting), "cue")


def test_heads_that_come_and_stay_accumulate() -> None:
    result = regime(STAY)
    assert (result.emerged, result.survive, result.final_over_peak) == (5, 1, 1)
    assert result.word == "accumulates"


def test_heads_that_stay_where_they_wandered_do_not_accumulate() -> None:
    assert regime(STAY, lasting=False).word == "neither"


def test_heads_that_come_and_go_search() -> None:
    result = regime(LEAVE)
    assert (result.emerged, result.survive, result.final_over_peak) == (5, 0, 0)
    assert result.turnover_over_null == pytest.approx(result.turnover / 0.1)
    assert result.word == "searches"


def test_coming_and_going_as_between_halves_of_the_pairs_is_no_search() -> None:
    assert regime(LEAVE, null=1.1).word == "neither"


def test_a_coin_for_each_head_is_neither() -> None:
    assert regime([*STAY[:3], *LEAVE[:4], "...."]).word == "neither"


def test_a_head_that_came_at_the_last_checkpoint_has_survived_nothing() -> None:
    result = regime(["...#"] * 9)
    assert (result.emerged, result.survive, result.tried) == (9, 1, 0)
    assert result.word == "too few heads"


@pytest.mark.parametrize("words", [["####", "#..#"], ["....", ".###", "..##"], ["#", "."]])
@pytest.mark.filterwarnings("error")
def test_of_few_heads_no_word_is_said(words: list[str]) -> None:
    assert regime(words).word == "too few heads"


def test_a_pruned_head_that_is_back_at_the_end_survived() -> None:
    result = regime([".#.#", ".#..", ".##.", "..##"])
    assert (result.emerged, result.survive, result.final_over_peak) == (4, 0.5, 2 / 3)


@pytest.mark.filterwarnings("error")
def test_one_checkpoint_has_no_turnover() -> None:
    result = regime(["#", "."])
    assert np.isnan(result.turnover) and np.isnan(result.turnover_over_null)
    assert np.isnan(result.survive) and np.isnan(result.final_over_peak)


def test_the_null_is_that_of_the_checkpoints_with_a_turnover() -> None:
    nodes, counts = run([".##", "..#"])
    counts["null"] = [0.9, 0.1, 0.3]
    assert Regime.of(nodes, counts, "cue").null == pytest.approx(0.2)


def test_contrasts_and_kinds_are_apart() -> None:
    one, two = run(STAY, contrast="sums"), run(LEAVE, contrast="cue")
    nodes, counts = pd.concat([one[0], two[0]]), pd.concat([one[1], two[1]])
    assert Regime.of(nodes, counts, "cue") == Regime.of(*two, "cue")
    mlps = nodes.assign(kind="mlp")
    assert Regime.of(mlps, counts, "cue").emerged == 0


def one(survive: float, turnover: float = 0.4, null: float = 0.2, final: float = 1.0) -> Regime:
    return Regime(4, survive, turnover, null, final, tried=4, left=2, lasting=2)


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
