"""What a study's responses say, against accuracies that are set by hand."""

import numpy as np
import pandas as pd
import pytest

from tests.builders.ablations import MODE, OTHERS, PROBLEMS, RANDOM, comparison, responses
from tracking.errors import BadInput
from tracking.interventions.matched import MatchedSets
from train.ablation.arms import Comparison
from train.ablation.results import Result, accuracies, predictions, results
from train.ablation.targets import Target
from train.ablation.view import notes, sentences, show


def one(off: float, controls: float) -> Result:
    of_controls = {f"zero {nodes[0]}": controls for nodes in OTHERS}
    (result,) = results(responses({"": 0.9, "zero L1H0": off, **of_controls}), [comparison()])
    return result


def test_heads_that_matter_more_than_random_ones_are_shown_to() -> None:
    result = one(off=0.3, controls=0.9)
    assert (result.on, result.off) == (pytest.approx(0.9), pytest.approx(0.3))
    assert result.change.mean == pytest.approx(-0.6)
    assert result.p < 0.001
    assert result.beyond == ("layer",)
    assert (
        "fewer problems are solved (0.90 to 0.30), beyond 20 random sets" in sentences([result])[0]
    )


def test_heads_that_matter_as_random_ones_do_are_not() -> None:
    result = one(off=0.3, controls=0.3)
    assert result.p < 0.001
    assert result.beyond == ()
    assert "not shown to be beyond 20 random sets" in sentences([result])[0]


def test_heads_that_matter_less_than_random_ones_are_not_beyond_them() -> None:
    result = one(off=0.6, controls=0.1)
    _, against = result.controls["layer"]
    assert result.p < 0.001 and against.difference.low > 0
    assert result.beyond == ()
    assert "(0.90 to 0.60), not shown to be beyond 20 random sets" in sentences([result])[0]


def test_of_few_control_sets_nothing_is_said() -> None:
    rows = responses({"": 0.9, "zero L1H0": 0.3, **{f"zero {n[0]}": 0.9 for n in OTHERS[:4]}})
    few = Comparison(Target("L1H0", ("L1H0",)), MODE, {"layer": MatchedSets(OTHERS[:4], 20)})
    (result,) = results(rows, [few])
    assert (result.controls, result.beyond) == ({}, ())
    assert sentences([result])[0].endswith("there are too few random sets to compare with")


def test_without_a_change_what_would_have_been_shown_is_said() -> None:
    result = one(off=0.9, controls=0.9)
    assert result.p == 1
    assert "no change is shown" in sentences([result])[0]
    assert f"one of {result.smallest:.2f} would have been" in sentences([result])[0]


def test_of_too_few_problems_no_change_is_called_one_that_would_be_shown() -> None:
    rows = responses({"": 0.9, "zero L1H0": 0.9})
    alone = Comparison(Target("L1H0", ("L1H0",)), MODE, {})
    (few,) = results(rows[rows["problem"].isin(["p0", "p1", "p2", "p3", "p4"])], [alone])
    assert np.isnan(few.smallest)
    assert sentences([few])[0].endswith("; so few problems could show none")
    show([few])


def test_a_benchmark_without_two_graded_problems_is_named() -> None:
    rows = responses({"": 0.9, "zero L1H0": 0.9})
    rows.loc[rows["problem"] != "p0", "right"] = pd.NA
    with pytest.raises(BadInput, match=r"words: problems with a graded response .*: 1, "):
        results(rows, [comparison()])


def test_p_is_corrected_over_all_that_was_asked() -> None:
    rows = pd.concat(
        [responses({"": 0.5, "zero L1H0": 0.4, **{f"zero {n[0]}": 0.5 for n in OTHERS}}, name)
         for name in ("easy", "hard")]
    )  # fmt: skip
    alone = results(rows[rows["benchmark"] == "easy"], [comparison()])[0].p
    both = [result.p for result in results(rows, [comparison()])]
    assert both == pytest.approx([2 * alone, 2 * alone])


def test_a_problem_that_was_not_graded_somewhere_is_left_out_everywhere() -> None:
    rows = responses({"": 1.0, "zero L1H0": 0.0})
    rows.loc[(rows["problem"] == "p0") & (rows["condition"] == ""), "right"] = pd.NA
    rows.loc[(rows["problem"] == "p1") & (rows["sample"] == 0), "right"] = pd.NA
    table = accuracies(rows, "words")
    assert "p0" not in table.index
    assert "p1" in table.index
    assert len(table) == PROBLEMS - 1


def test_shares_that_tell_which_heads_matter_correlate() -> None:
    heads = [f"L1H{head}" for head in range(10)]
    rows = responses({"": 1.0, **{f"zero {h}": 1 - place / 10 for place, h in enumerate(heads)}})
    each = results(rows, [Comparison(Target(h, (h,)), MODE, {}) for h in heads])
    shares = pd.Series(np.arange(10) / 10, index=heads)
    (up,) = predictions(each, shares)
    (down,) = predictions(each, shares[::-1].set_axis(heads))
    assert (up.value, down.value) == (pytest.approx(1), pytest.approx(-1))
    assert up.low > 0.5
    assert predictions(each, shares * 0) == []
    assert predictions(each[:9], shares) == []


def test_control_sets_that_are_not_as_asked_are_noted() -> None:
    few = MatchedSets(OTHERS[:3], asked=20, moved=1, norm_ratio=0.5)
    text = " ".join(notes({"layer": few}))
    assert "only 3 different" in text
    assert "1 heads of each" in text
    assert "0.50 of the heads' own" in text
    assert notes({"layer": RANDOM}) == []
