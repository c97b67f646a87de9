"""Accuracy and pass@k against enumeration, their intervals against simulated benchmarks."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from train.evals.estimates import Share, estimates, pass_at_k, share

PROBLEMS, SAMPLES, TRIALS = 40, 8, 700


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("right", range(6))
def test_pass_at_k_is_the_share_of_all_draws_with_a_right_one(right: int, k: int) -> None:
    draws = list(combinations([True] * right + [False] * (5 - right), k))
    assert pass_at_k(5, right, k) == pytest.approx(np.mean([any(draw) for draw in draws]))


@pytest.mark.parametrize("accuracy", [0.05, 0.3, 0.5, 0.97])
@pytest.mark.parametrize("spread", [0.2, 1.0, 5.0, None])  # of problems; None: all equally hard
def test_intervals_cover_the_truth_of_simulated_benchmarks(
    accuracy: float, spread: float | None
) -> None:
    covered = coverage(accuracy, spread)
    assert 0.92 <= covered <= 0.98


@pytest.mark.parametrize("spread", [0.2, 1.0, 5.0, None])
def test_intervals_cover_enough_where_hardly_anything_is_solved(spread: float | None) -> None:
    assert coverage(0.02, spread) >= 0.95


@pytest.mark.parametrize("problems", [10, 40])
@pytest.mark.parametrize("accuracy", [0.1, 0.7, 0.9])
def test_intervals_of_pass_at_k_cover_where_nearly_all_is_solved(
    accuracy: float, problems: int
) -> None:
    """Values are near 1 but for a few problems, which may not be among those asked."""
    rng = np.random.default_rng(1)
    odds = rng.beta(2 * accuracy, 2 - 2 * accuracy, (300, problems))
    true = 1 - np.prod([(2 - 2 * accuracy + i) / (2 + i) for i in range(4)])
    inside = 0
    for right in rng.binomial(SAMPLES, odds):
        one = share([pass_at_k(SAMPLES, count, 4) for count in right], others=True)
        inside += one.low <= true <= one.high
    assert inside / 300 >= 0.92


def test_pass_at_k_has_that_interval() -> None:
    drawn = [[True] * count + [False] * (4 - count) for count in (4, 4, 3, 2, 2)]
    rows = [row for i, right in enumerate(drawn) for row in response_rows(str(i), right)]
    (one,) = estimates(pd.DataFrame(rows).astype({"right": "boolean"}))
    values = [pass_at_k(4, sum(right), 2) for right in drawn]
    assert one.passed[2] == share(values, others=True)
    assert width(one.passed[2]) > width(share(values))


def coverage(accuracy: float, spread: float | None) -> float:
    """The share of simulated benchmarks whose interval has the true accuracy in it."""
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(TRIALS):
        odds = np.full(PROBLEMS, accuracy)
        if spread is not None:
            odds = rng.beta(accuracy * spread, (1 - accuracy) * spread, PROBLEMS)
        one = share(rng.binomial(SAMPLES, odds) / SAMPLES)
        inside += one.low <= accuracy <= one.high
    return inside / TRIALS


@pytest.mark.parametrize("right", [0, 1, 7, 20])
def test_one_response_a_problem_has_the_jeffreys_interval_at_most(right: int) -> None:
    one = share([1.0] * right + [0.0] * (20 - right))
    jeffreys = stats.beta.interval(0.95, right + 0.5, 20 - right + 0.5)
    assert one.low == pytest.approx(0 if right == 0 else jeffreys[0], abs=1e-9)
    assert one.high == pytest.approx(1 if right == 20 else jeffreys[1], abs=1e-9)


def test_intervals_of_other_shares_are_about_those_of_a_cluster_bootstrap() -> None:
    rng = np.random.default_rng(1)
    values = rng.beta(2, 2, 200)
    means = rng.choice(values, (4000, 200)).mean(1)
    one = share(values)
    assert (one.low, one.high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.005)


def test_without_problems_nothing_is_known_and_of_one_no_interval() -> None:
    assert np.isnan(share([]).value)
    one = share([0.5])
    assert one.value == 0.5 and np.isnan([one.low, one.high]).all()
    assert [str(share([])), str(one), str(Share(0.5, 0.25, 1))] == [
        "-",
        "0.500",
        "0.500 (0.250-1.000)",
    ]


def test_estimates_by_hand() -> None:
    rows = pd.DataFrame(
        [
            *response_rows("a", [True, False, None, True]),
            *response_rows("b", [False, False, False, False]),
            *response_rows("c", [None, None, None, None]),
        ]
    ).astype({"right": "boolean"})
    (one,) = estimates(rows.sample(frac=1, random_state=0))
    assert (one.problems, one.responses, one.samples) == (3, 12, 4)
    assert one.average.value == pytest.approx((2 / 3 + 0) / 2)
    assert one.passed[2].value == pytest.approx((1 - 0 / 3) / 2)
    assert one.passed.keys() == one.succeeded.keys() == {2, 4}
    assert one.passed[4].value == 0  # only of b are four graded
    assert one.succeeded[2].value == 0.5
    assert (one.length, one.cut_off, one.ungraded) == (2.5, 0.25, 5 / 12)
    assert one.row["pass@2"] == one.passed[2].value


def test_benchmarks_and_conditions_are_told_apart() -> None:
    rows = [
        {**row, "benchmark": benchmark, "condition": condition}
        for benchmark, condition, right in (("x", "", True), ("x", "off", False), ("y", "", False))
        for row in response_rows("a", [right])
    ]
    result = estimates(pd.DataFrame(rows).astype({"right": "boolean"}))
    averages = {(each.benchmark, each.condition): each.average.value for each in result}
    assert averages == {("x", ""): 1, ("x", "off"): 0, ("y", ""): 0}


def test_success_at_k_is_right_on_average_as_pass_at_k_is() -> None:
    rng = np.random.default_rng(0)
    drawn = [list(rng.random(8) < 0.3) for _ in range(4000)]
    rows = [row for i, right in enumerate(drawn) for row in response_rows(str(i), right)]
    (one,) = estimates(pd.DataFrame(rows).astype({"right": "boolean"}))
    for k in (2, 4, 8):
        true = 1 - 0.7**k
        assert one.passed[k].value == pytest.approx(true, abs=0.02)
        assert one.succeeded[k].value == pytest.approx(true, abs=0.03)
        assert width(one.passed[k]) <= width(one.succeeded[k]) + 1e-9


def width(one: Share) -> float:
    return one.high - one.low


def response_rows(problem: str, right: list) -> list[dict]:
    """Responses of lengths 1, 2, ..., the first of them cut off."""
    return [
        {
            "benchmark": "x",
            "condition": "",
            "problem": problem,
            "sample": sample,
            "right": value,
            "length": sample + 1,
            "cut_off": sample == 0,
        }
        for sample, value in enumerate(right)
    ]
