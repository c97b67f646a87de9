"""Means over runs are scipy's; what could have been shown is what simulations show."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from tracking.comparison.groups.means import difference, mean


def drawn(seed: int, count: int, centre: float = 0.0) -> np.ndarray:
    return centre + np.random.default_rng(seed).standard_normal(count)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_a_mean_is_students(count: int) -> None:
    values = drawn(0, count, 1.0)
    theirs: Any = stats.ttest_1samp(values, 0)
    ours = mean(values)
    low, high = theirs.confidence_interval()
    assert (ours.value, ours.low, ours.high) == pytest.approx((values.mean(), low, high))
    assert ours.p == pytest.approx(theirs.pvalue)


def test_a_difference_is_welchs() -> None:
    one, other = drawn(0, 5, 1.0), 3 * drawn(1, 8)
    theirs: Any = stats.ttest_ind(one, other, equal_var=False)
    ours = difference(one, other)
    low, high = theirs.confidence_interval()
    assert (ours.low, ours.high) == pytest.approx((low, high))
    assert ours.p == pytest.approx(theirs.pvalue)


def test_one_run_says_nothing_of_others() -> None:
    one = mean(np.array([0.3]))
    assert one.value == 0.3 and np.isinf([one.low, one.high]).all() and np.isnan(one.p)
    assert np.isinf(difference(np.array([0.3]), drawn(0, 5)).high)
    assert np.isnan(mean(np.array([np.nan])).value)


def test_runs_that_agree_are_not_proof_without_end() -> None:
    assert mean(np.array([1.0, 1.0])).p == 0.5
    assert mean(np.ones(8)).p < 0.01 and mean(np.zeros(8)).p == 1
    assert difference(np.ones(2), np.zeros(2)).p > 0.2


@pytest.mark.parametrize("count", [4, 8, 16])
def test_the_smallest_difference_is_shown_in_four_of_five_studies(count: int) -> None:
    smallest = float(np.mean([mean(drawn(seed, count)).smallest for seed in range(400)]))
    shown = [mean(drawn(seed, count, smallest)).p <= 0.05 for seed in range(1000)]
    assert 0.74 < np.mean(shown) < 0.88
