"""The picture and the terminal's view of a run."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from tracking import Record, Timeline, report, terminal
from tracking.ledger import Analysis
from tracking.palette import LOOKS


def timeline(histories: list[list[float]]) -> Timeline:
    """On 2 layers of 2 heads: by step and head, the membership of a head with a large effect."""
    records = []
    for index, memberships in enumerate(histories):
        share = torch.tensor(memberships)
        analysis = Analysis(
            edges=torch.zeros(7, 15),
            strength=torch.zeros(7, 15),
            circuit=torch.zeros(7, 15, dtype=torch.bool),
            in_circuit=torch.arange(10)[:, None] < 10 * share,
            effect=torch.full((8, 4), 0.5),
            gap=0.2 if index else 0.01,
            clean=0.9,
            corrupted=0.1,
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
    assert title.split() == ["step", "reward", "probes", *terminal.COLUMNS, "gap", "seconds"]
    assert rows[0].split()[:9] == ["0", "-", "cue", "1", "0", "0", "0", "0", "0"]
    assert rows[2].split()[:9] == ["20", "0.200", "cue", "2", "1", "0", "1", "1", "1"]
    assert [row.split()[9] for row in rows] == ["1.0%", "20.0%!", "20.0%!"]


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
    figure = report.picture(told)
    stack, raster, reward = figure.axes
    heights = np.zeros(3)
    for container in stack.containers:
        heights += [bar.get_height() for bar in container]  # type: ignore[attr-defined]
    assert heights.tolist() == told.counts["active"].tolist() == [1, 3, 2]
    named = [label.get_text() for label in raster.get_yticklabels()]
    assert named == ["L0H0", "L0H1", "L1H1", "L1H0"]  # the last was never more than uncertain
    assert reward.lines[0].get_ydata()[1:].tolist() == [0.1, 0.2]  # type: ignore[union-attr]
    path = report.write_picture(told, tmp_path / "report.png")
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("histories", [[[1, 1, 1, 1]], [[0, 0, 0, 0]], [[0, 0, 0, 0]] * 3])
def test_a_run_with_little_to_show_still_makes_a_picture(
    histories: list[list[float]], tmp_path: Path
) -> None:
    report.write_picture(timeline(histories), tmp_path / "report.png")
    report.head_map(timeline(histories), 0, "cue")
