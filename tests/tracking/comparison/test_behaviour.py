"""Behaviours differ where their paired interval says so."""

import torch

from tests.builders.analyses import PAIRS, make_analysis
from tests.builders.comparisons import comparison_by
from tracking.comparison.behaviour import behaviour_differences, behaviour_section, behaviours
from tracking.model.graph import Graph

GRAPH = Graph(2, 3)


def normal(seed: int) -> torch.Tensor:
    return torch.randn(PAIRS, generator=torch.Generator().manual_seed(seed))


def test_a_behaviour_is_the_mean_of_its_pairs() -> None:
    clean = 2 + normal(0)
    table = behaviours({"a": make_analysis(GRAPH, clean=clean)})
    assert abs(table["behaviour"][0] - float((clean + 2).mean())) < 1e-5
    assert table["low"][0] < table["behaviour"][0] < table["high"][0] and table["there"][0]


def test_a_difference_is_paired() -> None:
    spread = 3 * normal(0)
    first = make_analysis(GRAPH, clean=2 + spread)
    second = make_analysis(GRAPH, clean=2.5 + spread + 0.01 * normal(1))
    row = behaviour_differences({"a": first, "b": second}, 0.05).iloc[0]
    assert row["differs"] and row["high"] - row["low"] < 0.05
    assert row["low"] < 0.5 + 0.01 < row["high"] + 0.02


def test_equal_behaviours_do_not_differ() -> None:
    each = {name: make_analysis(GRAPH, clean=2 + normal(0)) for name in "abc"}
    assert not behaviour_differences(each, 0.05)["differs"].any()


def test_every_sentence_says_what_differs() -> None:
    each = {"a": make_analysis(GRAPH), "b": make_analysis(GRAPH, clean=torch.full((PAIRS,), -2.0))}
    (sentence,) = behaviour_section(comparison_by(GRAPH, each)).sentences
    assert "b's is smaller by 4.00" in sentence and "in b (not there)" in sentence
