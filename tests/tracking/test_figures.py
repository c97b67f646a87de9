"""The pictures and the terminal's view of a run."""

import io
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rich.console import Console

from tests.tracking.conftest import make_analysis
from tracking import Record, Timeline, figures, terminal
from tracking.graph import Graph
from tracking.palette import LOOKS


def timeline(
    histories: list[list[float]], more: Mapping[int, dict[str, Any]] = MappingProxyType({})
) -> Timeline:
    """On 2 layers of 2 heads: by step and head, the membership of a head with a large effect.

    `more` has fields that differ at a place in the history.
    """
    records = []
    for index, memberships in enumerate(histories):
        analysis = make_analysis(
            Graph(2, 2),
            in_circuit=torch.arange(10)[:, None] < 10 * torch.tensor(memberships),
            effect=torch.full((8, 4), 0.5),
            **{"gap": 0.2 if index else 0.01, **more.get(index, {})},
        )
        records.append(
            Record(10 * index, 2, 2, "0", {"cue": analysis}, None if index == 0 else index / 10)
        )
    return Timeline.of(records)


RUN = [[1, 0, 0, 0], [1, 1, 0, 1], [1, 1, 0.5, 0]]


def lines(told: Timeline) -> list[str]:
    console = Console(file=io.StringIO(), width=200)
    table = terminal.Table(console)
    for record in told.records:
        table.show(told, record.step)
    table.close(told)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_a_row_per_step_says_what_the_counts_say() -> None:
    title, *rows = lines(timeline(RUN))[:4]
    after = ["faithful", "jaccard", "gap", "verdict", "seconds"]
    assert title.split() == ["step", "reward", "probes", *terminal.COUNTS, *after]
    cells = [row.split() for row in rows]
    assert cells[0][:10] == ["0", "-", "cue", "16", "1", "0", "0", "0", "0", "0"]
    assert cells[0][10:] == ["0.90±0.05", "0.80", "1.0%", "sound", "0.0"]
    assert cells[2][:10] == ["20", "0.200", "cue", "16", "2", "1", "0", "1", "1", "1"]
    assert [row[12:14] for row in cells[1:]] == [["20.0%", "unconverged"]] * 2


def test_the_table_says_in_one_word_what_a_record_is_worth() -> None:
    more = {0: {"difference_low": 0.0, "faithfulness": float("nan")}, 1: {"jaccard": 0.4}}
    cells = [row.split() for row in lines(timeline(RUN, more))[1:4]]
    assert [row[13] for row in cells] == ["absent", "weak", "unconverged"]
    assert [row[10] for row in cells] == ["-", "0.90±0.05", "0.90±0.05"]
    assert [row[11] for row in cells] == ["0.80", "0.40", "0.80"]


def test_the_map_shows_every_heads_state_by_its_sign() -> None:
    last, first = (line.split()[1:] for line in lines(timeline(RUN))[-4:-2])
    assert first == [LOOKS["retained"].sign, LOOKS["surviving"].sign]
    assert last == ["?", LOOKS["pruned"].sign]


def test_signs_and_colours_tell_states_apart() -> None:
    shown = [state for state in LOOKS if state != "base"]
    assert len({LOOKS[state].sign for state in shown}) == len(shown)
    assert len({LOOKS[state].color for state in shown}) == len(shown)


def test_bars_add_up_to_the_active_heads(tmp_path: Path) -> None:
    told = timeline(RUN)
    figure = figures.picture(told)
    stack, raster, reward = figure.axes
    heights = np.zeros(3)
    for container in stack.containers:
        heights += [bar.get_height() for bar in container]  # type: ignore[attr-defined]
    assert heights.tolist() == told.counts["active"].tolist() == [1, 3, 2]
    named = [label.get_text() for label in raster.get_yticklabels()]
    assert named == ["L0H0", "L0H1", "L1H1", "L1H0"]  # the last was never more than uncertain
    assert reward.lines[0].get_ydata()[1:].tolist() == [0.1, 0.2]  # type: ignore[union-attr]
    path = figures.write_picture(told, tmp_path / "report.png")
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("histories", [[[1, 1, 1, 1]], [[0, 0, 0, 0]], [[0, 0, 0, 0]] * 3])
def test_a_run_with_little_to_show_still_makes_a_picture(
    histories: list[list[float]], tmp_path: Path
) -> None:
    figures.write_picture(timeline(histories), tmp_path / "report.png")
    figures.head_map(timeline(histories), 0, "cue")


def veils(figure: Figure) -> list[list[float]]:
    """The pale spans of each part of a figure, from where to where on the axis of steps."""
    return [
        [span.get_x(), span.get_x() + span.get_width()]
        for axes in figure.axes
        for span in axes.patches
        if isinstance(span, Rectangle) and span.get_alpha() == figures.PALE
    ]


def test_the_heads_of_a_weak_record_are_pale_and_no_others() -> None:
    told = timeline(RUN, {1: {"faithfulness": 0.6}})
    assert veils(figures.picture(told)) == [[5, 15], [5, 15]]  # in the bars and in the raster
    assert len(veils(figures.head_map(told, 10, "cue"))) == 1
    assert veils(figures.head_map(told, 20, "cue")) == []
    assert veils(figures.picture(timeline(RUN))) == []
    assert [figures.head_map(told, step, "cue").axes[0].get_title() for step in (0, 10, 20)] == [
        "'cue' probes, step 0: sound",
        "'cue' probes, step 10: weak",
        "'cue' probes, step 20: unconverged",
    ]
