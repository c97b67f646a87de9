"""The terminal's view of a run, at any width."""

import io
import re

import pytest
import torch
from rich.console import Console

from tests.builders.analyses import make_analysis
from tracking import Record, Timeline
from tracking.model.graph import Graph
from tracking.timeline.summary import Summary
from tracking.views.terminal import SPARED, WIDTHS, Table

CONTRASTS = ("operand", "carries_of_the_second_digit")


def wide(layers: int, heads: int) -> Timeline:
    """Two checkpoints of a model of many heads, of which at the second nearly all are new."""
    graph = Graph(layers, heads)
    records = []
    for step, active in ((0, 1), (120000, len(graph.nodes) - 1)):
        analysis = make_analysis(
            graph,
            0.5 * (torch.arange(len(graph.nodes)) < active),
            faithfulness_low=0.8,
            faithfulness_high=280.8,
            gap=1234.5,
        )
        records.append(
            Record(step, layers, heads, "0", dict.fromkeys(CONTRASTS, analysis), 123.456)
        )
    return Timeline.of(records)


def printed(timeline: Timeline, width: int, terminal_too: bool = True) -> list[str]:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=terminal_too, color_system=None
    )
    table = Table(console)
    for record in timeline.records:
        table.show(timeline, record.step)
    table.close(timeline)
    table.sentences(timeline)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


LAST = {
    "step": "120000", "reward": "123.456", "behaviour": "4.00±0.00", "active": "336+27",
    "emergent": "335+27", "faded": "0+0", "wiring": "1.00±0.02", "faithful": "0.9±140.0",
    "verdict": "unconverged", "seconds": "0.0",
}  # fmt: skip


@pytest.mark.parametrize("width", [80, 120, 200])
def test_cells_of_many_heads_and_long_names_end_where_their_titles_end(width: int) -> None:
    title, *rows = printed(wide(28, 12), width)[1:6]
    names = title.split()
    spared = SPARED[: len(WIDTHS) - len(names)]
    assert names == [name for name in WIDTHS if name not in spared]
    assert bool(spared) == (width < 140)
    assert {len(row.rstrip()) for row in (title, rows[0], rows[2])} == {len(title)}
    assert max(len(row) for row in rows) <= width
    for name in names:
        end = re.search(rf"\b{name}\b", title).end()  # type: ignore[union-attr]
        cell = rows[2][:end].split()[-1]
        assert cell == LAST.get(name, "16")
        assert f"{rows[2]} "[end] == " "
    contrast = rows[3].split()[1]
    assert (
        (contrast == CONTRASTS[1])
        if width > 80
        else (contrast.endswith("…") and contrast[:-1] in CONTRASTS[1])
    )


@pytest.mark.parametrize(("width", "heads"), [(80, 12), (80, 32), (80, 64), (200, 64)])
def test_the_map_and_the_rest_fit_into_the_terminal(width: int, heads: int) -> None:
    lines = printed(wide(4, heads), width)
    assert max(len(line) for line in lines) <= width
    maps = [line for line in lines if line.startswith("  L")]
    assert len(maps) == 8
    for line in maps:
        assert len(line[6:].replace(" ", "")) == heads + 1  # the MLP
    below = next(line for line in lines if line.startswith("  head"))
    assert len(below) == len(maps[0]) + 1  # MLP stands in its middle


def test_where_no_terminal_is_nothing_is_spared_and_lines_are_whole() -> None:
    timeline = wide(2, 64)
    lines = printed(timeline, 80, terminal_too=False)
    assert lines[1].split() == list(WIDTHS)
    assert "\x1b" not in "".join(lines)
    summary = Summary.of(timeline, CONTRASTS[1])
    assert lines[-4:] == [summary.grew, summary.carried, summary.rewired, summary.supported]


def signs(timeline: Timeline) -> list[list[str]]:
    """The signs of the map, the last layer first."""
    lines = printed(timeline, 200)
    return [line.split()[1:] for line in lines if line.startswith("  L")]


def timeline_of(*shares: tuple[float, ...], noise: float = 0.0) -> Timeline:
    """Checkpoints of a model of 1 layer: the shares of two heads and the MLP."""
    records = [
        Record(10 * place, 1, 2, "0", {"cue": make_analysis(Graph(1, 2), torch.tensor(of), noise)})
        for place, of in enumerate(shares)
    ]
    return Timeline.of(records)


def test_the_map_shows_heads_and_the_mlp_by_the_signs_of_their_states() -> None:
    assert signs(timeline_of((0.5, 0.0, 0.0), (0.0, 0.0, 0.4))) == [["×", "·", "○"]]
    assert signs(timeline_of((0.5, 0.0, 0.0))) == [["●", "·", "·"]]


def test_a_node_that_a_checkpoint_cannot_tell_is_asked_for() -> None:
    timeline = timeline_of((0.5, 0.05, 0.0), noise=0.05)
    assert timeline.nodes["undecided"].tolist() == [False, True, False]
    assert signs(timeline) == [["●", "?", "·"]]


def test_a_node_of_which_a_checkpoint_says_otherwise_is_asked_for_too() -> None:
    timeline = timeline_of((0.06, 0.04, 0.0), (0.02, 0.07, 0.0), noise=0.005)
    last = timeline.at(10, "cue")
    assert last["state"].tolist() == ["retained", "inactive", "inactive"]
    assert last["alone"].tolist() == ["inactive", "active", "inactive"]
    assert signs(timeline) == [["?", "?", "·"]]


def test_counts_are_of_heads_and_of_mlps() -> None:
    row = printed(timeline_of((0.5, 0.3, 0.0), (0.0, 0.3, 0.4)), 200)[3].split()
    assert row[:7] == ["10", "-", "4.00±0.00", "cue", "16", "1+1", "0+1"] and row[7] == "1+0"
