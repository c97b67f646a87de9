"""The share of a job's time that tracking takes."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking import clock
from tracking.clock import Clock


def set_clock(times: Iterator[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock.time, "monotonic", lambda: next(times))


def test_the_share_is_what_ran_of_what_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(iter([0.0, 10.0, 15.0, 20.0, 30.0, 40.0]), monkeypatch)
    watch = Clock()  # at 0
    with watch.running():  # from 10
        assert watch.share == 5 / 15  # at 15
    assert watch.share == 10 / 30  # it ran until 20; at 30
    assert watch.share == 10 / 40


seconds = st.floats(0.01, 100)


@given(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=30), st.floats(0.01, 0.99))
def test_what_is_made_within_the_budget_stays_within_it(
    spans: list[tuple[float, float]], budget: float
) -> None:
    """Analyses as long as the one before are never begun where they would go past the budget."""
    with pytest.MonkeyPatch.context() as patch:
        now = 0.0
        patch.setattr(clock.time, "monotonic", lambda: now)
        watch, cost = Clock(budget), spans[0][1]
        done = 0
        for training, _ in spans:
            now += training
            if watch.over:
                continue
            with watch.running():
                now += cost
            done += 1
            assert done == 1 or watch.share <= budget + 1e-9
        assert done >= 1


def test_no_budget_leaves_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Clock()
    for _ in range(3):
        with watch.running():
            pass
        assert not watch.over
