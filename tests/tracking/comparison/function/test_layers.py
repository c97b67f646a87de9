"""Where in the layers a behaviour is carried, compared without any node's name."""

import pytest
import torch

from tests.builders.analyses import make_analysis
from tests.builders.comparisons import comparison_by
from tracking.comparison.function.layers import depth_table, layers_section, profile_table
from tracking.ledger.record import Analysis
from tracking.model.graph import Graph
from tracking.timeline.activity import Thresholds

GRAPH = Graph(3, 2)


def carried_by(noise: float = 0.02, **shares: float) -> Analysis:
    return make_analysis(GRAPH, torch.tensor([shares.get(n, 0.0) for n in GRAPH.nodes]), noise)


def test_a_profile_is_the_sum_of_its_layers_shares() -> None:
    one = carried_by(L1H0=0.3, L1H1=0.2, M2=0.6)
    table = profile_table({"a": GRAPH}, {"a": one}, Thresholds())
    assert table["heads_share"].tolist() == pytest.approx([0, 0.5, 0], abs=1e-5)
    assert table["MLPs_share"].tolist() == pytest.approx([0, 0, 0.6], abs=1e-5)
    assert table["heads_active"].tolist() == [0, 2, 0]
    low, value, high = table[["heads_low", "heads_share", "heads_high"]].to_numpy().T
    assert (low <= value + 1e-6).all() and (value <= high + 1e-6).all()


def test_a_behaviour_carried_later_is_deeper() -> None:
    each = {"a": carried_by(L0H0=0.4, M1=0.5), "b": carried_by(L2H0=0.4, M1=0.5)}
    table = depth_table({"a": GRAPH, "b": GRAPH}, each, 0.05).set_index("kind")
    assert table.loc["heads", "depth_against"] == pytest.approx(0, abs=0.05)
    assert table.loc["heads", "depth"] == pytest.approx(1, abs=0.05)
    assert table["differs"].to_dict() == {"heads": True, "MLPs": False}
    first, second = layers_section(comparison_by(GRAPH, each)).sentences
    assert "deeper in b by" in first and "a difference is not shown" in second


def test_nodes_that_carry_nothing_have_no_depth() -> None:
    each = {"a": carried_by(M1=0.5, L0H0=-0.3), "b": carried_by(L2H0=0.4, M1=0.5)}
    table = depth_table({"a": GRAPH, "b": GRAPH}, each, 0.05)
    assert table["kind"].tolist() == ["MLPs"]
    assert len(layers_section(comparison_by(GRAPH, each)).sentences) == 1


def test_depth_is_relative_where_models_have_other_layers() -> None:
    deep = Graph(5, 2)
    shares = torch.tensor([0.5 if node == "L2H0" else 0.0 for node in deep.nodes])
    each = {"a": carried_by(L1H0=0.5, noise=0), "b": make_analysis(deep, shares)}
    table = depth_table({"a": GRAPH, "b": deep}, each, 0.05).set_index("kind")
    assert table.loc["heads", "depth"] == pytest.approx(0.5)
    assert table.loc["heads", "depth_against"] == pytest.approx(0.5)


def test_a_depth_stands_beside_that_of_a_control() -> None:
    run = {"a": carried_by(L0H0=0.4, M1=0.5), "b": carried_by(L2H0=0.4, M1=0.5)}
    ends = {"c@0": carried_by(L0H0=0.4, M1=0.5), "c@9": carried_by(L1H0=0.4, M1=0.5)}
    control = comparison_by(GRAPH, ends)
    section = layers_section(comparison_by(GRAPH, run, control=control))
    depths = section.tables["depths"].set_index("kind")
    assert depths.loc["heads", "difference"] == pytest.approx(1, abs=0.05)
    assert depths.loc["heads", "control"] == pytest.approx(0.5, abs=0.05)
    assert depths.loc["MLPs", "control"] == pytest.approx(0, abs=0.05)
    assert any("of heads moves by 0.5" in one for one in section.sentences)
    assert set(section.tables["layers"]["model"]) == {"a", "b", "c@9"}
