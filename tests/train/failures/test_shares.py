"""Shares of failures, against responses that fail in known ways."""

import pandas as pd
import pytest

from train.evals.grading import grade_math, grade_tiny
from train.evals.problems import Benchmark
from train.failures.shares import failure_shares

TINY = Benchmark("tiny", (), grade_tiny, "")
MATH = Benchmark("math", (), grade_math, "")


def rows(*responses: tuple[str, str, str, bool | None, int]) -> pd.DataFrame:
    """benchmark, condition, text, right, length; the right answer is 8."""
    names = ["benchmark", "condition", "response", "right", "length"]
    table = pd.DataFrame(responses, columns=names).astype({"right": "boolean"})
    return table.assign(problem="p", answer="8", cut_off=False)


def test_each_label_is_counted_by_benchmark_and_condition() -> None:
    table = failure_shares(
        rows(
            ("tiny", "", "3+5=8;####8", True, 10),
            ("tiny", "", "3+5=9;####9", False, 10),
            ("tiny", "off", "3+5=8;", False, 6),
            ("math", "", "so it is 3 + 5 = 8, the answer is 8", True, 12),
        ),
        [TINY, MATH],
    )
    assert table.loc[("tiny", ""), "arithmetic slip"] == 0.5
    assert table.loc[("tiny", "off"), "no answer"] == 1
    assert table.loc["math"].to_numpy().sum() == 0


def test_the_tiny_task_counts_modulo_ten_and_word_problems_do_not() -> None:
    same = "8+5=3;####3"
    table = failure_shares(
        rows(("tiny", "", same, False, 9), ("math", "", same, False, 9)), [TINY, MATH]
    )
    assert list(table["arithmetic slip"]) == [0, 1]


def test_what_is_long_is_measured_by_the_model_as_it_is() -> None:
    table = failure_shares(
        rows(
            ("math", "", "the answer is 8", True, 10),
            ("math", "off", "the answer is 8", True, 21),
            ("math", "off", "the answer is 8", True, 20),
        ),
        [MATH],
    )
    assert table["long"].to_list() == [0, 0.5]


@pytest.mark.parametrize(("boxed", "share"), [(True, 1.0), (False, 0.0)])
def test_a_format_is_missed_only_where_it_was_asked(boxed: bool, share: float) -> None:
    table = failure_shares(rows(("math", "", "the answer is 8", True, 9)), [MATH], boxed)
    assert table["wrong format"].to_list() == [share]
