"""Verdicts of nodes and of records are each one word, from what they say they are from."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders.analyses import PAIRS, make_analysis
from tracking.errors import BadInput
from tracking.model.graph import Graph
from tracking.timeline.activity import Activity, Thresholds, screen_error, verdict, weaknesses
from tracking.timeline.shares import Shares

GRAPH = Graph(1, 3)


def judged(shares: list[float], noise: float = 0.0, least: float = 0.05, **more: Any) -> Activity:
    analysis = make_analysis(GRAPH, torch.tensor([*shares, 0.0]), noise, **more)
    return Activity.judged(Shares.of(analysis), least)


@settings(max_examples=40)
@given(st.lists(st.floats(-0.2, 0.2), min_size=3, max_size=3), st.floats(0, 0.3))
def test_a_node_is_just_one_of_active_inactive_and_undecided(
    shares: list[float], noise: float
) -> None:
    activity = judged(shares, noise)
    each = activity.active.astype(int) + activity.inactive + activity.undecided
    assert each.tolist() == [1] * 4
    strict = judged(shares, noise, least=0.1)
    assert not (strict.active & ~activity.active).any()
    assert not (activity.inactive & ~strict.inactive).any()


@pytest.mark.parametrize(
    ("share", "noise", "wanted"),
    [(0.3, 0.05, "active"), (-0.3, 0.05, "active"), (0.0, 0.05, "inactive"),
     (0.04, 0.001, "inactive"), (0.06, 0.001, "active"), (0.06, 0.1, "undecided"),
     (0.04, 0.1, "undecided"), (0.0, 1.0, "undecided")],
)  # fmt: skip
def test_a_verdict_is_what_the_interval_is_sure_of(share: float, noise: float, wanted: str) -> None:
    activity = judged([share, share, share], noise)
    assert getattr(activity, wanted)[:3].all()


def test_without_behaviour_all_that_is_known_is_inactive() -> None:
    activity = judged([0.5, 0.5, 0.5], clean=torch.full((PAIRS,), -2.0))
    assert activity.inactive.all()


@pytest.mark.parametrize("name", ["share", "error", "gap"])
@pytest.mark.parametrize("value", [0, -0.1, 1.1, float("nan")])
def test_a_threshold_outside_0_and_1_is_refused(name: str, value: float) -> None:
    with pytest.raises(BadInput, match=f"track_{name}"):
        Thresholds(**{name: value})


def test_kept_thresholds_are_those_that_are_known() -> None:
    assert Thresholds.kept({"share": 0.1, "effect": 0.02}) == Thresholds(share=0.1)


@pytest.mark.parametrize(
    ("more", "word", "words"),
    [
        ({}, "sound", ""),
        ({"gap": 0.2}, "unconverged", ""),
        ({"faithfulness": 0.5}, "weak", "faithfulness 0.50"),
        ({"jaccard": 0.3}, "weak", "halves of the pairs share 30% of heads"),
        ({"all_edges": 0.9}, "weak", "all edges give 0.90"),
        ({"no_edges": 0.1}, "weak", "no edges give 0.10"),
        ({"random_size": 5.0}, "weak", "random circuits of 1.0 times the edges carry as much"),
        ({"clean": torch.full((PAIRS,), -2.0)}, "absent", ""),
    ],
)
def test_a_record_s_verdict_says_what_speaks_against_it(
    more: dict[str, Any], word: str, words: str
) -> None:
    circuit = torch.zeros(GRAPH.edge_mask.shape).bool()
    circuit[0, :5] = True
    analysis = make_analysis(GRAPH, **{"circuit": circuit, **more})
    shares = Shares.of(analysis)
    assert verdict(analysis, shares, Thresholds()) == word
    if words:
        assert weaknesses(analysis, shares, Thresholds()) == [words]


def test_few_pairs_make_a_record_weak() -> None:
    few = torch.full((8,), 2.0)
    effect = torch.zeros(8, 4)
    analysis = make_analysis(
        GRAPH, clean=few, corrupted=-few, corrupt=effect, restore=effect, attributed=effect
    )
    assert weaknesses(analysis, Shares.of(analysis), Thresholds()) == ["8 pairs"]


def test_the_screen_errs_where_a_sampled_node_is_active() -> None:
    sampled = torch.tensor([True, True, False, False])
    analysis = make_analysis(GRAPH, torch.tensor([0.4, 0.0, 0.4, 0.0]), sampled=sampled)
    shares = Shares.of(analysis)
    assert screen_error(analysis, shares, Thresholds()) == 0.5
    assert weaknesses(analysis, shares, Thresholds()) == ["50% of the nodes left out are active"]
    nobody = make_analysis(GRAPH, torch.full((4,), 0.4))
    assert screen_error(nobody, Shares.of(nobody), Thresholds()) == 0
    assert not np.isnan(screen_error(nobody, Shares.of(nobody), Thresholds()))
