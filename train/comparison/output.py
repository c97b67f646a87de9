"""What a comparison says, in the terminal and in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.text import Text

from tracking.atomic import write_whole
from tracking.comparison.section import Section

FINDINGS = "findings.txt"


def show(section: Section, console: Console | None = None) -> None:
    """A section: its title, its table, its sentences; nothing where it says nothing."""
    if not section.sentences:
        return
    console = console or Console(highlight=False, soft_wrap=True)
    console.print(Text(f"\n{section.title}", "bold"))
    if section.shown is not None and len(section.shown):
        title, *rows = _lines(section.shown)
        console.print(Text(title, "dim"), *map(Text, rows), sep="\n")
        console.print()
    for sentence in section.sentences:
        console.print(Text(sentence), soft_wrap=not console.is_terminal)


def write(sections: Sequence[Section], folder: Path) -> list[Path]:
    """Every table as `<name>.csv`, and all sentences in `findings.txt`."""
    paths = [folder / FINDINGS]
    lines = [line for one in sections for line in (f"# {one.title}", *one.sentences, "")]
    write_whole(paths[0], "\n".join(lines).encode())
    for section in sections:
        for name, table in section.tables.items():
            paths.append(folder / f"{name}.csv")
            write_whole(paths[-1], table.to_csv(index=False).encode())
    return paths


def _lines(shown: pd.DataFrame) -> list[str]:
    """Titles and rows, cells side by side."""
    rows = [[*map(str, shown.columns)], *shown.fillna("").astype(str).to_numpy().tolist()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
