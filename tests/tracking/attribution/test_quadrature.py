"""Steps cover the path, and adaptive ones lie where the metric moves."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tracking.attribution.quadrature import LEVEL, RULES, Sweep, even
from tracking.errors import BadInput

rules = st.sampled_from(RULES)
ends = torch.tensor([0.0, 1.0])


def start(metric) -> Sweep:
    return Sweep.between(metric(torch.zeros(1)), metric(torch.ones(1)))


def logistic(middle: float, sharpness: float):
    return lambda place: torch.sigmoid((place - middle) * sharpness)


@given(rules, st.integers(1, 40))
def test_weights_of_even_rules_sum_to_one_and_places_lie_on_the_path(rule: str, steps: int) -> None:
    places, weights = even(rule, steps)
    assert places.shape == weights.shape == (steps,)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-5)
    assert bool((weights > 0).all())
    assert bool((places >= 0).all()) and bool((places <= 1).all())
    assert bool((places.diff() > 0).all())


def test_left_right_and_midpoint_lie_where_their_names_say() -> None:
    assert even("left", 4)[0].tolist() == [0, 0.25, 0.5, 0.75]
    assert even("right", 4)[0].tolist() == [0.25, 0.5, 0.75, 1]
    assert even("midpoint", 4)[0].tolist() == [0.125, 0.375, 0.625, 0.875]


@pytest.mark.parametrize("steps", range(1, 9))
def test_gauss_legendre_is_exact_up_to_degree_2m_minus_1(steps: int) -> None:
    places, weights = even("gauss-legendre", steps)
    for degree in range(2 * steps):
        assert float((weights * places**degree).sum()) == pytest.approx(1 / (degree + 1), abs=1e-6)


@pytest.mark.parametrize("rule", ["adaptiv", "", "simpson"])
def test_an_unknown_rule_is_named_with_the_known_ones(rule: str) -> None:
    with pytest.raises(
        BadInput, match=r"left, right, midpoint, gauss-legendre, adaptive"
    ) as raised:
        even(rule, 5)
    assert repr(rule) in str(raised.value)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("steps", [0, -3])
def test_a_path_needs_a_step(rule: str, steps: int) -> None:
    with pytest.raises(BadInput, match=str(steps)):
        even(rule, steps)


@given(
    st.lists(st.tuples(st.floats(0.05, 0.95), st.floats(1, 300)), min_size=1, max_size=4),
    st.integers(1, 40),
)
def test_a_sweep_has_so_many_intervals_with_the_values_at_their_ends(
    jumps: list[tuple[float, float]], intervals: int
) -> None:
    middle, sharpness = torch.tensor(jumps).T
    calls = []

    def metric(place: Tensor) -> Tensor:
        calls.append(place)
        return torch.sigmoid((place - middle) * sharpness)

    first, last = (torch.sigmoid((end - middle) * sharpness) for end in ends)
    sweep = Sweep.between(first, last).refined(metric, intervals)
    assert sweep.places.shape == (len(jumps), intervals + 1)
    assert len(calls) == intervals - 1
    assert bool((sweep.places.diff(dim=1) > 0).all())
    expected = torch.sigmoid((sweep.places - middle[:, None]) * sharpness[:, None])
    assert torch.allclose(sweep.values, expected, atol=1e-6)


@given(st.floats(0.05, 0.95), st.floats(1, 2000), st.integers(2, 24))
def test_adaptive_steps_are_in_order_and_weigh_little_more_than_even_ones(
    middle: float, sharpness: float, count: int
) -> None:
    metric = logistic(middle, sharpness)
    places, weights = start(metric).refined(metric, 2 * count).steps(count)
    assert places.shape == weights.shape == (count, 1)
    assert bool((places > 0).all()) and bool((places < 1).all())
    assert bool((places.diff(dim=0) > 0).all())
    assert bool((weights > 0).all()) and float(weights.max()) <= 1 / (LEVEL * count) + 1e-6


@given(st.floats(0.05, 0.95), st.floats(10, 500))
def test_adaptive_steps_integrate_a_jump_that_even_ones_miss(
    middle: float, sharpness: float
) -> None:
    metric = logistic(middle, sharpness)
    doubled = sharpness > 300  # pairs that miss their tolerance get twice as many
    count = 24 if doubled else 12
    places, weights = start(metric).refined(metric, count * 3 // 2).steps(count)
    value = metric(places)
    slope = sharpness * value * (1 - value)
    total = float(metric(torch.ones(1)) - metric(torch.zeros(1)))
    assert float((slope * weights).sum()) == pytest.approx(total, rel=0.05)
    assert float(weights.sum()) == pytest.approx(1, abs=0.15)  # of what is constant on the path


@pytest.mark.parametrize("metric", [torch.zeros_like, lambda place: 3 * place])
def test_steps_of_a_straight_metric_are_even_midpoints(metric) -> None:
    places, weights = start(metric).refined(metric, 8).steps(6)
    assert torch.allclose(places[:, 0], even("midpoint", 6)[0])
    assert torch.allclose(weights[:, 0], even("midpoint", 6)[1])


def test_refining_in_two_goes_is_refining_in_one() -> None:
    metric = logistic(0.3, 40)
    once = start(metric).refined(metric, 20)
    twice = start(metric).refined(metric, 7).refined(metric, 20)
    assert torch.equal(once.places, twice.places)
    assert torch.equal(once.values, twice.values)


def test_pairs_of_a_sweep_do_not_touch_each_other() -> None:
    middle = torch.tensor([0.2, 0.5, 0.9])
    both = Sweep.between(torch.zeros(3), torch.ones(3)).refined(
        lambda place: torch.sigmoid((place - middle) * 50), 16
    )
    rows = torch.tensor([False, True, True])
    assert torch.equal(both.rows(rows).places, both.places[1:])
    alone = Sweep.between(torch.zeros(1), torch.ones(1)).refined(logistic(0.9, 50), 16)
    assert torch.allclose(both.places[2:], alone.places)


def test_a_second_jump_is_found_beside_one_that_is_infinitely_sharp() -> None:
    def metric(place: Tensor) -> Tensor:
        return 1.0 * (place > 0.3) + 0.9 * (place > 0.8)

    sweep = start(metric).refined(metric, 64)
    across = sweep.values.diff(dim=1).abs() > 0.5
    assert float(sweep.places.diff(dim=1)[across].max()) < 0.01
