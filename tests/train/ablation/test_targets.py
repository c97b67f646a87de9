"""Sets of nodes, by the words of a run's states or by name."""

import pandas as pd
import pytest

from tests.builders.timelines import records_named
from tracking import BadInput, Graph, Timeline
from train.ablation.targets import Target, targets

GRAPH = Graph(2, 3)


@pytest.fixture(scope="module")
def states() -> pd.DataFrame:
    """Base heads, one of them faded, a recruited head and a recruited MLP."""
    paths = {"L0H0": (0.4, 0.4, 0.4), "L0H1": (0.4, 0.0, 0.0), "L1H0": (0.0, 0.4, 0.4),
             "M1": (0.0, 0.4, 0.4)}  # fmt: skip
    timeline = Timeline.of(records_named(GRAPH, paths))
    return timeline.at(20, "cue")


@pytest.mark.parametrize(
    ("word", "nodes"),
    [
        ("active", ("L0H0", "L1H0")),
        ("base", ("L0H0",)),
        ("recruited", ("L1H0",)),
        ("survivors", ("L1H0",)),
        ("faded", ("L0H1",)),
        ("M1,L0H2", ("L0H2", "M1")),
    ],
)
def test_a_word_stands_for_heads_by_their_state(
    word: str, nodes: tuple[str, ...], states: pd.DataFrame
) -> None:
    assert targets([word], GRAPH, states) == [Target(word, nodes)]


def test_equal_sets_are_asked_once_and_it_is_said(
    states: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["recruited", "survivors", "L1H0", "recruited"]
    assert targets(words, GRAPH, states) == [Target("recruited", ("L1H0",))]
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in printed] == ["survivors", "L1H0"]
    assert all("the nodes of recruited" in line for line in printed)


def test_only_heads_have_matched_others() -> None:
    assert targets(["L0H0,M1"], GRAPH)[0].heads == ("L0H0",)


@pytest.mark.parametrize("word", ["L0H3", "L2H0", "M2", "embed", "logits", "actve", "L0H0,"])
def test_what_is_no_node_is_refused_by_name(word: str) -> None:
    with pytest.raises(BadInput, match="is no head or MLP"):
        targets([word], GRAPH)


def test_a_word_needs_a_run() -> None:
    with pytest.raises(BadInput, match="only a run with records"):
        targets(["active"], GRAPH)


def test_a_word_that_no_head_answers_to_says_which_are_active() -> None:
    timeline = Timeline.of(records_named(GRAPH, {"L0H0": (0.4, 0.4)}))
    with pytest.raises(BadInput, match=r"'faded': there are none.*active: L0H0"):
        targets(["faded"], GRAPH, timeline.at(10, "cue"))
