import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.builders.solving import Heads, solved
from tracking.errors import BadInput
from train.ablation.paired import (
    AgainstControls,
    against_controls,
    beyond_controls,
    difference,
    holm,
    sign_flip_p,
)

SAMPLES = st.sampled_from([1, 2, 3, 4, 8])


@st.composite
def accuracies(draw: st.DrawFn, conditions: int = 2, most: int = 30) -> np.ndarray:
    """Accuracies [condition, problem] of the same number of samples each."""
    each, problems = draw(SAMPLES), draw(st.integers(2, most))
    right = st.lists(st.integers(0, each), min_size=problems, max_size=problems)
    return np.array([draw(right) for _ in range(conditions)]) / each


def by_all_signs(differences: np.ndarray) -> float:
    signs = np.array(list(itertools.product([-1, 1], repeat=len(differences))))
    return float((np.abs(signs @ differences) >= abs(differences.sum()) - 1e-9).mean())


@given(accuracies(most=10))
def test_p_is_the_share_of_all_sign_flips_as_extreme(pair: np.ndarray) -> None:
    assert sign_flip_p(pair[0] - pair[1]) == pytest.approx(by_all_signs(pair[0] - pair[1]))


@pytest.mark.parametrize("samples", [9, 11, 64])
def test_p_of_rounded_accuracies_is_no_smaller_than_the_exact_one(samples: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        signed = rng.integers(-3, 5, 8)
        exact, p = by_all_signs(signed), sign_flip_p(signed / samples)
        assert exact - 1e-9 <= p <= exact + 0.05


def test_p_of_many_problems_is_near_scipys_monte_carlo() -> None:
    on, off = solved(np.random.default_rng(1), 120, 4, [Heads(-0.3)], shared=0.5)
    theirs = stats.permutation_test(
        (on, off),
        lambda one, other, axis: (one - other).mean(axis=axis),
        permutation_type="samples",
        n_resamples=4999,
        rng=0,
    )
    assert difference(on, off).p == pytest.approx(theirs.pvalue, abs=0.02)


@given(accuracies())
def test_swapping_the_conditions_turns_the_sign_and_nothing_else(pair: np.ndarray) -> None:
    there, back = difference(*pair), difference(*pair[::-1])
    assert there.p == back.p
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low))


@given(accuracies(), st.randoms())
def test_the_order_of_problems_does_not_matter(pair: np.ndarray, chance) -> None:
    order = list(range(pair.shape[1]))
    chance.shuffle(order)
    one, other = difference(*pair), difference(*pair[:, order])
    assert one.p == pytest.approx(other.p) and one.error == pytest.approx(other.error)


@given(accuracies(conditions=1))
def test_equal_conditions_differ_by_nothing_but_are_not_sure_of_it(one: np.ndarray) -> None:
    same = difference(one[0], one[0])
    assert same.p == 1 and same.mean == 0 and same.low < 0 < same.high


@given(accuracies(conditions=4), st.permutations(range(3)))
def test_neither_the_order_of_controls_nor_all_heads_on_matter(all_sets, order) -> None:
    on, target, controls = all_sets[0], all_sets[1], all_sets[1:]
    one = against_controls(target, controls)
    other = against_controls(target - on, controls[order] - on)
    assert one.difference.p == pytest.approx(other.difference.p)
    assert one.rank_p == other.rank_p


def test_the_rank_says_one_in_all_sets_at_best() -> None:
    rng = np.random.default_rng(0)
    _, *off = solved(rng, 200, 8, [Heads(0.1 * rng.normal()) for _ in range(20)], shared=0.5)
    target = solved(rng, 200, 8, [Heads(-6.0)], shared=0.5)[1]
    assert against_controls(target, np.array(off)).rank_p == pytest.approx(1 / 21)


def test_the_rank_is_as_often_in_each_place_under_the_null() -> None:
    rng, places = np.random.default_rng(0), []
    for _ in range(400):
        effects = rng.standard_t(1.5, 9)  # far from normal
        sets = np.repeat(effects[:, None], 2, axis=1)
        places.append(against_controls(sets[0], sets[1:]).rank_p)
    counts = np.bincount(np.rint(np.array(places) * 9).astype(int), minlength=10)[1:]
    assert stats.chisquare(counts).pvalue > 1e-3


def test_planted_heads_are_told_and_controls_are_not() -> None:
    rng, named = np.random.default_rng(0), []
    for _ in range(20):
        sets = [Heads(0.05 * rng.normal(), 0.05) for _ in range(21)]
        _, planted, control, *off = solved(rng, 100, 4, [Heads(-3.0), *sets], shared=0.9)
        asked = [against_controls(one, np.array(off)) for one in (planted, control)]
        named.append(beyond_controls(asked))
    assert named == [[True, False]] * 20


@pytest.mark.parametrize("problems, samples", [(50, 1), (200, 8)])
@pytest.mark.parametrize("spread", [0.0, 0.1, 0.3])
def test_controls_among_controls_are_rarely_significant(
    problems: int, samples: int, spread: float
) -> None:
    rng, significant = np.random.default_rng(0), 0
    for _ in range(200):
        sets = [Heads(spread * rng.normal(), spread) for _ in range(21)]
        _, one, *off = solved(rng, problems, samples, sets, shared=0.7)
        significant += sum(beyond_controls([against_controls(one, np.array(off))]))
    assert significant <= 10


def test_problems_alone_would_take_chance_among_sets_for_an_effect() -> None:
    rng, significant = np.random.default_rng(0), 0
    for _ in range(100):
        sets = [Heads(0.3 * rng.normal(), 0.3) for _ in range(21)]
        _, one, *off = solved(rng, 200, 8, sets, shared=0.7)
        significant += difference(one, np.mean(off, axis=0)).p <= 0.05
    assert significant >= 30


@pytest.mark.parametrize("effect, shared", [(0.0, 0.95), (-0.5, 0.5)])
def test_the_interval_holds_the_true_difference(effect: float, shared: float) -> None:
    rng = np.random.default_rng(0)
    on, off = solved(rng, 200_000, 4, [Heads(effect)], shared)
    truth, held = float((off - on).mean()), 0
    for _ in range(400):
        on, off = solved(rng, 60, 4, [Heads(effect)], shared)
        one = difference(off, on)
        held += one.low <= truth <= one.high
    assert held >= 0.93 * 400


@pytest.mark.parametrize("level", [0.05, 0.01])
def test_the_smallest_difference_is_shown_in_four_of_five_draws(level: float) -> None:
    rng = np.random.default_rng(0)
    noise = rng.choice([-0.5, -0.25, 0.0, 0.25, 0.5], size=(400, 80))
    smallest = difference(noise[0], np.zeros(80)).smallest(level)
    # moved by quarters, as accuracies of four samples are
    moved = noise + 0.25 * (rng.random(noise.shape) < smallest / 0.25)
    shown = np.mean([difference(one, np.zeros(80)).p <= level for one in moved])
    assert 0.7 <= shown <= 0.9


def test_without_a_change_only_six_problems_that_change_could_show_one() -> None:
    same = difference(np.ones(50), np.ones(50))
    assert same.smallest() == pytest.approx(6 / 50)
    assert sign_flip_p(np.array([1.0] * 5)) > 0.05 >= sign_flip_p(np.array([1.0] * 6))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_its_steps_reject(p: list[float]) -> None:
    corrected = holm(np.array(p))
    for level in (0.01, 0.05, 0.3):
        rejected, ordered = 0, sorted(p)
        while rejected < len(p) and ordered[rejected] * (len(p) - rejected) <= level:
            rejected += 1
        assert (corrected <= level).sum() == rejected


def test_several_asked_share_one_level() -> None:
    nothing = AgainstControls(difference(np.ones(9), np.ones(9)), 1.0, 20)
    one = AgainstControls(replace(nothing.difference, p=0.03), 1 / 21, 20)
    assert beyond_controls([one]) == [True]
    assert beyond_controls([one, nothing]) == [False, False]


def test_a_control_as_extreme_takes_the_word_back() -> None:
    sure = replace(difference(np.ones(9), np.ones(9)), p=1e-9)
    beyond = [beyond_controls([AgainstControls(sure, p, 20)]) for p in (1 / 21, 2 / 21)]
    assert beyond == [[True], [False]]


@pytest.mark.parametrize(
    "one, other",
    [(np.ones(3), np.ones(4)), (np.ones(1), np.ones(1)), (np.array([1, np.nan]), np.ones(2))],
)
def test_what_is_not_paired_is_refused(one: np.ndarray, other: np.ndarray) -> None:
    with pytest.raises(BadInput):
        difference(one, other)


def test_one_control_set_is_refused() -> None:
    with pytest.raises(BadInput, match="at least two"):
        against_controls(np.ones(5), np.ones((1, 5)))
