"""Tests of change err as often as they say, and no oftener; corrections keep their rates."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from tracking.stability.bootstrap import resamples
from tracking.stability.changes import change_p, discoveries, spent, walk_p

probabilities = arrays(float, st.integers(1, 40), elements=st.floats(0, 1))


def drawn(values: np.ndarray, count: int = 200) -> np.ndarray:
    """[resample, ...] means of values [pair, ...]."""
    return np.tensordot(resamples(count, len(values)).numpy(), values, 1)


@pytest.mark.parametrize("pairs", [2, 3, 16, 64])
def test_a_difference_that_is_noise_is_found_as_often_as_said(pairs: int) -> None:
    now, then = np.random.default_rng(0).normal(size=(2, pairs, 4000))
    p = change_p(drawn(now), drawn(then), pairs)
    for level in (0.05, 0.01):
        assert np.mean(p <= level) <= level + 4 * np.sqrt(level / 4000)
    assert np.mean(p <= 0.05) > 0.02


def test_p_of_a_difference_is_about_that_of_student_s_paired_test() -> None:
    generator = np.random.default_rng(1)
    then = generator.normal(size=(64, 50))
    now = then + generator.normal(0.3, 1, size=(64, 50))
    p = change_p(drawn(now, 4000), drawn(then, 4000), 64)
    wanted = stats.ttest_rel(now, then).pvalue
    assert np.abs(np.log(p / wanted)).max() < 0.6
    assert np.corrcoef(np.log(p), np.log(wanted))[0, 1] > 0.99


def test_what_all_pairs_share_is_no_noise_of_a_difference() -> None:
    then = np.random.default_rng(2).normal(size=(16, 1)) * 100
    assert change_p(drawn(then + 0.1), drawn(then), 16)[0] < 1e-6


def test_where_nothing_differs_or_is_known_p_is_1() -> None:
    draws = drawn(np.random.default_rng(0).normal(size=(8, 4)))
    assert change_p(draws, draws, 8).tolist() == [1] * 4
    unknown = draws.copy()
    unknown[3, 0], unknown[:, 1] = np.nan, np.inf
    assert change_p(unknown, draws + 1, 8)[:2].tolist() == [1, 1]


def test_one_pair_is_sure_of_nothing_though_its_resamples_agree() -> None:
    one = np.array([[1.0, 2.0]])
    assert change_p(drawn(one + 5), drawn(one), 1).tolist() == [1, 1]
    assert change_p(drawn(one + 5), drawn(one), np.array([1, 1])).tolist() == [1, 1]


def test_few_resamples_make_small_p_larger() -> None:
    now = np.random.default_rng(3).normal(1, 1, size=(128, 300))
    few, many = (np.log(change_p(drawn(now, n), 0 * drawn(now, n), 128)) for n in (50, 2000))
    assert few.mean() > many.mean() + 1


@given(probabilities, st.floats(0.001, 0.5))
def test_discoveries_are_benjamini_and_hochberg_s(p: np.ndarray, level: float) -> None:
    ranked, count = np.sort(p), len(p)
    steps = np.arange(1, count + 1)
    ties = np.isclose(ranked * count / steps, level, rtol=1e-12, atol=0)
    assume(not ties.any())  # the last digit would decide
    passed = [k for k in range(1, count + 1) if ranked[k - 1] * count / k <= level]
    cut = ranked[passed[-1] - 1] if passed else -1
    assert discoveries(p, level).tolist() == (p <= cut).tolist()
    assert discoveries(p.reshape(1, -1), level).shape == (1, count)


def test_of_nothing_nothing_is_discovered() -> None:
    assert discoveries(np.zeros((2, 0)), 0.05).shape == (2, 0)


@given(st.floats(0.001, 1), st.integers(1, 500))
def test_looks_never_spend_more_than_the_error_rate(level: float, looks: int) -> None:
    each = [spent(level, look) for look in range(1, looks + 1)]
    assert sum(each) == pytest.approx(level * looks / (looks + 1))
    assert each == sorted(each, reverse=True)


# Walks


def levels(generator: np.random.Generator, nodes: int) -> np.ndarray:
    active = generator.random(nodes) < 0.05
    return np.where(active, generator.uniform(0.05, 0.6, nodes), generator.exponential(0.01, nodes))


def lasting(paths: np.ndarray) -> np.ndarray:
    """bool [node], as a history asks."""
    return discoveries(walk_p(paths), 0.05) & (np.abs(paths[-1] - paths[0]) >= 0.05)


LIKELY = 0.05 + 2 * (0.05 * 0.95 / 60) ** 0.5  # of 60 draws; scripts/controls.py takes 200
PACES = {
    "even": np.ones(30),
    "a linear decay": 1 - np.arange(30) / 30,
    "a cosine's decay": 0.5 + 0.5 * np.cos(np.pi * np.arange(30) / 30),
    "none after a third": (np.arange(30) < 10) * 1.0,
}


@pytest.mark.parametrize("size", [0.02, 0.05, 0.2])
@pytest.mark.parametrize("kind", ["walk", "jitter"])
@pytest.mark.parametrize("form", ["sums", "products"])
def test_what_wanders_or_jitters_does_not_last(kind: str, form: str, size: float) -> None:
    result = []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        moves = size * generator.standard_normal((30, 336))
        moves = moves.cumsum(0) if kind == "walk" else moves
        start = levels(generator, 336)
        result.append(lasting(start + moves if form == "sums" else start * np.exp(moves)).any())
    assert np.mean(result) <= LIKELY


@pytest.mark.parametrize("pace", PACES)
def test_what_wanders_less_and_less_does_not_last_either(pace: str) -> None:
    result = []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        moves = 0.2 * PACES[pace][:, None] * generator.standard_normal((30, 336))
        result.append(lasting(levels(generator, 336) * np.exp(moves.cumsum(0))).any())
    assert np.mean(result) <= LIKELY


def test_a_jump_or_a_climb_among_quiet_nodes_lasts() -> None:
    generator = np.random.default_rng(0)
    paths = 0.1 + 0.001 * generator.standard_normal((30, 50))
    paths[15:, 3] += 0.3
    paths[:, 7] += np.linspace(0, 0.3, 30)
    assert np.flatnonzero(lasting(paths)).tolist() == [3, 7]
    assert not lasting(paths[:15])[3]


def test_a_walk_of_fewer_than_5_steps_has_no_p() -> None:
    paths = np.random.default_rng(0).normal(size=(5, 2, 3))
    assert np.isnan(walk_p(paths)).all() and walk_p(paths).shape == (2, 3)
    assert walk_p(np.concatenate([paths, paths[:1]])).tolist() == [[1] * 3] * 2


def test_a_plateau_and_an_unknown_path_have_p_1() -> None:
    paths = np.full((12, 3), 0.3)
    paths[:4, 1] = np.nan
    assert walk_p(paths).tolist() == [1, 1, 1]
