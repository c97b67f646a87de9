"""A node is active in one model only where that is supported; by chance nothing differs."""

from typing import Any

import numpy as np
import pytest
import torch

from tests.builders import planted as plants
from tests.builders.analyses import PAIRS, make_analysis
from tests.builders.comparisons import comparison_of
from tracking.comparison.shares import Compared, null, on_pairs
from tracking.ledger.record import Analysis
from tracking.model.graph import Graph
from tracking.timeline.activity import Thresholds
from tracking.timeline.shares import Shares

GRAPH = Graph(2, 3)
NODES = len(GRAPH.nodes)


def noisy(shares: dict[str, float], noise: float, seed: int) -> Analysis:
    """An analysis with these true shares, and independent noise over pairs."""
    true = torch.tensor([shares.get(node, 0.0) for node in GRAPH.nodes])
    drawn = torch.randn(2, PAIRS, NODES, generator=torch.Generator().manual_seed(seed))
    corrupt, restore = 4 * (true + noise * drawn)
    return make_analysis(GRAPH, corrupt=corrupt, restore=restore)


def compared(**analyses: Analysis) -> Compared:
    return Compared.of(analyses, Thresholds())


def words(**analyses: Analysis) -> dict[str, str]:
    both = compared(**analyses)
    return dict(zip(GRAPH.nodes, both.words, strict=True))


def test_a_node_of_one_model_is_said_to_be() -> None:
    base = noisy({"L0H0": 0.4}, 0.02, 0)
    other = noisy({"L0H0": 0.4, "M1": 0.3}, 0.02, 1)
    assert words(a=base, b=other) == {
        **dict.fromkeys(GRAPH.nodes, "none"), "L0H0": "all", "M1": "only",
    }  # fmt: skip
    both = compared(a=base, b=other)
    assert both.where[GRAPH.nodes.index("M1")] == ["b"]
    value, low, high = both.between["a", "b"].at(GRAPH.nodes.index("M1"))
    assert low < 0.3 < high and low < value < high


def test_a_node_of_some_models_is_said_to_be() -> None:
    with_it = [noisy({"M1": 0.3}, 0.02, seed) for seed in (0, 1)]
    assert words(a=noisy({}, 0.02, 2), b=with_it[0], c=with_it[1])["M1"] == "some"


def test_what_cannot_be_told_is_undecided() -> None:
    assert words(a=noisy({"M1": 0.3}, 0.02, 0), b=noisy({"M1": 0.06}, 0.05, 1))["M1"] == "undecided"
    # surely active and surely inactive, and yet no further apart than the threshold
    near = words(a=noisy({"M1": 0.07}, 0.005, 0), b=noisy({"M1": 0.03}, 0.005, 1))
    assert near["M1"] == "undecided"


def test_without_behaviour_in_one_model_nothing_is_compared() -> None:
    absent = make_analysis(GRAPH, clean=torch.full((PAIRS,), -2.0))
    both = compared(a=noisy({"M1": 0.3}, 0.02, 0), b=absent)
    assert both.absent == ["b"] and not both.between
    assert dict(zip(GRAPH.nodes, both.words, strict=True))["M1"] == "alone"
    assert set(words(a=absent, b=absent).values()) == {"undecided"}


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.3])
def test_models_of_the_same_shares_rarely_differ(noise: float) -> None:
    true = {"L0H0": 0.4, "M0": 0.9, "M1": 0.1}
    false = 0
    for seed in range(40):
        both = compared(a=noisy(true, noise, 2 * seed), b=noisy(true, noise, 2 * seed + 1))
        false += bool(both.between["a", "b"].differs.any()) or "only" in both.words
    assert false <= 5  # of 40; 2 are expected at an error rate of 0.05


def test_a_model_differs_nowhere_from_itself() -> None:
    one = noisy({"L0H0": 0.4, "M1": 0.06}, 0.1, 0)
    both = compared(a=one, b=one)
    assert not both.between["a", "b"].differs.any()
    assert (both.between["a", "b"].value == 0).all() and "only" not in both.words


def test_halves_of_the_pairs_of_one_model_rarely_differ() -> None:
    levels = [null(noisy({"L0H0": 0.4, "M1": 0.3}, 0.1, s), Thresholds()) for s in range(10)]
    assert np.mean([one.differing for one in levels]) < 0.2
    assert np.mean([one.only for one in levels]) < 0.1
    assert all(0.05 < one.largest < 0.5 for one in levels)


def test_some_of_the_pairs_give_the_shares_of_these() -> None:
    one = noisy({"L0H0": 0.4}, 0.1, 0)
    rows = torch.tensor([0, 3, 7, 8])
    part = Shares.of(on_pairs(one, rows))
    assert part.pairs == 4
    assert part.value[0] == pytest.approx(one.nodes.corrupt[rows].mean(0).numpy() / 4, abs=1e-6)


def test_a_gain_changes_no_share() -> None:
    def model(gain: float) -> Any:
        out: Any = plants.planted()
        out.model.norm.weight.data *= gain
        return out

    whole = comparison_of({"a": model(1), "b": model(3)}, plants.pairs(32))
    both = Compared.of(whole.analyses("pairs"), Thresholds())
    assert not both.between["a", "b"].differs.any()
    assert {*both.words} == {"all", "none"}


def test_a_planted_node_is_the_only_one_that_one_model_has() -> None:
    more: Any = plants.planted()
    with torch.no_grad():
        plants.plant(more.model.layers[1].self_attn, 1)
    whole = comparison_of({"a": plants.planted(), "b": more}, plants.pairs(32))
    both = Compared.of(whole.analyses("pairs"), Thresholds())
    nodes = whole.parties[0].record.graph.nodes
    assert {n: w for n, w in zip(nodes, both.words, strict=True) if w != "none"} == {
        plants.COPY: "all", "L1H1": "only",
    }  # fmt: skip
    assert both.where[nodes.index("L1H1")] == ["b"]
