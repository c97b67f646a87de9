"""Turnover is that of the resamples one by one, and is less than its null where nothing changed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tracking.stability.turnover import turnover

SETS = st.lists(st.sets(st.integers(0, 4)), min_size=6, max_size=6)


def members(sets: list[set[int]]) -> torch.Tensor:
    return torch.tensor([[one in inside for one in range(5)] for inside in sets])


def apart(first: set[int], second: set[int]) -> float:
    return len(first ^ second) / len(first | second) if first | second else 0.0


@given(SETS, SETS)
def test_turnover_and_null_are_those_of_sets(now: list[set[int]], before: list[set[int]]) -> None:
    result = turnover(members(now), members(before))
    turned = [apart(*both) for both in zip(now, before, strict=True)]
    nulls = [
        [apart(one, following) for one, following in zip(each, [*each[1:], each[0]], strict=True)]
        for each in (now, before)
    ]
    less = np.array(turned) - np.mean(nulls, axis=0)
    assert result["turnover"] == pytest.approx(np.mean(turned), abs=1e-6)
    assert result["null"] == pytest.approx(np.mean(nulls[0]), abs=1e-6)
    assert result["null_high"] == pytest.approx(np.quantile(nulls[0], 0.975), abs=1e-6)
    ends = [result[f"turnover_less_null{end}"] for end in ("", "_low", "_high")]
    assert ends == pytest.approx([less.mean(), *np.quantile(less, [0.025, 0.975])], abs=1e-6)


def test_a_model_that_is_the_same_has_no_turnover_and_less_than_its_null() -> None:
    drawn = torch.rand(200, 30, generator=torch.Generator().manual_seed(0)) < 0.5
    result = turnover(drawn, drawn)
    assert result["turnover_high"] == 0 and result["turnover_less_null_high"] < 0


def test_other_members_surely_turn_over_more_than_the_null() -> None:
    noise = torch.rand(2, 200, 30, generator=torch.Generator().manual_seed(0)) < 0.1
    first = noise[0] ^ (torch.arange(30) < 15)
    second = noise[1] ^ (torch.arange(30) >= 15)
    assert turnover(second, first)["turnover_less_null_low"] > 0.3


def test_what_is_not_known_is_missing() -> None:
    some = torch.ones(8, 3, dtype=torch.bool)
    assert np.isnan(list(turnover(None, some).values())).all()
    for before in (None, some[:4]):
        result = turnover(some, before)
        assert result["null"] == 0 and np.isnan(result["turnover"])
