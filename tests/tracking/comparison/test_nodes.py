"""What is said of nodes is held against a control where there is one of the same shape."""

from tests.builders.analyses import make_analysis
from tests.builders.comparisons import comparison_by
from tracking.comparison.nodes import nodes_section
from tracking.model.graph import Graph

GRAPH = Graph(2, 3)
BOTH = {name: make_analysis(GRAPH) for name in "ab"}


def test_a_control_of_another_shape_gives_nodes_no_level() -> None:
    wider = Graph(2, 4)
    ends = {name: make_analysis(wider) for name in ("control@0", "control@9")}
    section = nodes_section(comparison_by(GRAPH, BOTH, control=comparison_by(wider, ends)))
    assert not any("control" in sentence for sentence in section.sentences)


def test_a_control_of_the_same_shape_does() -> None:
    section = nodes_section(comparison_by(GRAPH, BOTH, control=comparison_by(GRAPH, BOTH)))
    assert any("in a control run shares of" in sentence for sentence in section.sentences)
    assert (section.tables["node_differences"]["control"] == 0).all()
