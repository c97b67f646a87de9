"""What is active in one mode only is put down to thinking where the control says so, else not."""

import torch

from tests.builders.analyses import PAIRS, make_analysis
from tests.builders.comparisons import comparison_by
from tracking.comparison.prompts.modes import mode_table, modes_section
from tracking.ledger.record import Analysis
from tracking.model.graph import Graph
from tracking.timeline.activity import Thresholds

GRAPH = Graph(2, 3)


def mode(seed: int, *active: str) -> Analysis:
    """A mode in which these nodes have a share of 0.3 and others none, with noise over pairs."""
    shares = torch.tensor([0.3 * (node in active) for node in GRAPH.nodes])
    generator = torch.Generator().manual_seed(seed)
    drawn = shares + 0.02 * torch.randn(2, PAIRS, len(shares), generator=generator)
    return make_analysis(GRAPH, corrupt=4 * drawn[0], restore=4 * drawn[1])


def differing(**modes: Analysis) -> dict[str, tuple[str, str]]:
    table = mode_table(GRAPH.nodes, modes, Thresholds())
    rows = zip(table["node"], table["mode"], table["of"], strict=True)
    return {node: (mode, of) for node, mode, of in rows if mode != "none"}


def test_a_node_that_the_control_lacks_with_on_is_off_s_alone() -> None:
    result = differing(on=mode(0, "L0H0"), off=mode(1, "L0H0", "L1H1"), template=mode(2, "L0H0"))
    assert result == {"L0H0": ("both", ""), "L1H1": ("off only", "thinking")}


def test_a_node_that_the_control_shares_with_off_is_the_template_s() -> None:
    result = differing(on=mode(0), off=mode(1, "L1H1"), template=mode(2, "L1H1"))
    assert result == {"L1H1": ("off only", "template")}


def test_a_node_of_on_alone_is_thinking_s_where_the_control_has_it_too() -> None:
    result = differing(on=mode(0, "M0", "M1"), off=mode(1), template=mode(2, "M0"))
    assert result == {"M0": ("on only", "thinking"), "M1": ("on only", "template")}


def test_without_behaviour_under_the_control_nothing_is_put_down() -> None:
    absent = make_analysis(GRAPH, clean=torch.full((PAIRS,), -2.0))
    assert differing(on=mode(0), off=mode(1, "M0"), template=absent) == {
        "M0": ("off only", "untold")
    }


def test_without_behaviour_in_a_mode_there_is_no_table() -> None:
    absent = make_analysis(GRAPH, clean=torch.full((PAIRS,), -2.0))
    assert mode_table(GRAPH.nodes, {"on": mode(0), "off": absent}, Thresholds()).empty
    analyses = {"on": mode(0), "off": absent, "template": mode(2)}
    (sentence,) = modes_section(comparison_by(GRAPH, analyses)).sentences
    assert sentence == (
        "On 'cue' pairs on or off does not show the behaviour: nothing to share out."
    )


def test_sentences_name_the_nodes_of_each_mode_and_what_they_are_put_down_to() -> None:
    analyses = {"on": mode(0, "L0H0"), "off": mode(1, "L0H0", "L1H1"), "template": mode(2, "L0H0")}
    (sentence,) = modes_section(comparison_by(GRAPH, analyses)).sentences
    assert sentence == (
        "On 'cue' pairs 1 head is active in both modes (L0H0); no node only with thinking on; "
        "1 head is active only with it off (L1H1, thinking); of 0 it is undecided."
    )
