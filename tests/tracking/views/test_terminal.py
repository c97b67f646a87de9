"""The terminal's view of a run, at any width."""

import io
import re

import pytest
import torch
from rich.console import Console

from tests.builders.analyses import make_analysis
from tracking import Record, Timeline
from tracking.model.graph import Graph
from tracking.views.terminal import SPARED, WIDTHS, Table

CONTRASTS = ("operand", "carries_of_the_second_digit")


def wide(layers: int, heads: int) -> Timeline:
    """Two checkpoints of a model of many heads, of which at the second nearly all are new."""
    count = layers * heads
    records = []
    for step, active in ((0, 1), (120000, count - 1)):
        analysis = make_analysis(
            Graph(layers, heads),
            in_circuit=(torch.arange(count) < active).expand(10, count),
            effect=torch.full((16, count), 0.5),
            faithfulness_low=-40.0,
            faithfulness_high=240.0,
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
    "step": "120000", "reward": "123.456", "active": "335", "emergent": "334", "new": "334",
    "pruned": "0", "surviving": "0", "undecided": "0", "faithful": "1±140", "jaccard": "0.80",
    "gap": ">999%", "verdict": "unconverged", "seconds": "0.0",
}  # fmt: skip


@pytest.mark.parametrize("width", [80, 120, 200])
def test_cells_of_many_heads_and_long_names_end_where_their_titles_end(width: int) -> None:
    title, *rows = printed(wide(28, 12), width)[:5]
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
    contrast = rows[3].split()[0]
    assert (
        (contrast == CONTRASTS[1])
        if width > 80
        else (contrast.endswith("…") and contrast[:-1] in CONTRASTS[1])
    )


@pytest.mark.parametrize(("width", "heads"), [(80, 12), (80, 32), (80, 64), (200, 64)])
def test_the_map_and_the_rest_fit_into_the_terminal(width: int, heads: int) -> None:
    lines = printed(wide(4, heads), width)
    assert max(len(line) for line in lines[5:]) <= width
    maps = [line for line in lines if line.startswith("  L")]
    assert len(maps) == 8
    for line in maps:
        assert len(line[6:].replace(" ", "")) == heads
    below = next(line for line in lines if line.startswith("  head"))
    assert len(below) == len(maps[0])


def test_where_no_terminal_is_nothing_is_spared_and_lines_are_whole() -> None:
    lines = printed(wide(2, 64), 80, terminal_too=False)
    assert lines[0].split() == list(WIDTHS)
    assert "\x1b" not in "".join(lines)
    assert lines[-1].startswith(f"On '{CONTRASTS[1]}' pairs") and lines[-1].endswith("sound.")
