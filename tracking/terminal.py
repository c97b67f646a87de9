"""What a run shows in the terminal: a row per checkpoint, and at the end a map of its heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.text import Text
from tqdm.auto import tqdm

from tracking.lifecycle import Timeline
from tracking.palette import LOOKS, UNCERTAIN

COUNTS = ("active", "emergent", "new", "pruned", "surviving", "uncertain")
WIDTHS = {  # of the columns, in characters
    "step": 6, "reward": 9, "probes": 14, "active": 7, "emergent": 9, "new": 4, "pruned": 7,
    "surviving": 10, "uncertain": 10, "faithful": 11, "jaccard": 8, "gap": 7, "verdict": 12,
    "seconds": 8,
}  # fmt: skip


class Table:
    """Prints one row per checkpoint and kind of probe, as they come."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.titled: str | None = None  # what the reward column is called

    def show(self, timeline: Timeline, step: int) -> None:
        """The rows of one step; before the first, the columns' names."""
        rows = timeline.counts[timeline.counts["step"] == step]
        name = str(rows["reward_name"].iloc[0])
        if name != self.titled:
            self.titled = name
            name = name.removeprefix("eval_mean_token_")  # accuracy, where SFT is evaluated
            if first := timeline.records[0].step:
                note = f"step 0 was not analysed; step {first} stands for the base"
                self._print(Text(note, "red"))
            titles = [name if column == "reward" else column for column in WIDTHS]
            self._print(Text(_cells(titles), "bold"))
        for index, (_, row) in enumerate(rows.iterrows()):
            self._print(Text(_row(row, first=index == 0)))

    def failed(self, step: int, error: Exception) -> None:
        """In a row's place, where a checkpoint could not be analysed."""
        self._print(Text(f"{step:>6}  not analysed: {error}", "red"))

    def close(self, timeline: Timeline) -> None:
        """The map of the heads at the last step, a row per layer, by kind of probe."""
        step = timeline.records[-1].step
        for kind in timeline.kinds:
            self._print(Text(f"\nheads on {kind!r} probes at step {step}", "bold"))
            for line in head_map(timeline.at(step, kind)):
                self._print(line)
        self._print(legend(timeline))

    def _print(self, text: Text) -> None:
        with tqdm.external_write_mode():  # a progress bar steps aside
            self.console.print(text)


def head_map(heads: pd.DataFrame) -> list[Text]:
    """One line per layer, the last on top: every head's sign in its state's colour.

    `heads` are the rows of one step and kind of a timeline.
    """
    lines = []
    for layer, row in sorted(heads.groupby("layer"), reverse=True):
        line = Text(f"  L{layer:<3}")
        for state, uncertain in zip(row["state"], row["uncertain"], strict=True):
            look = UNCERTAIN if uncertain else LOOKS[state]
            line.append(f" {look.sign}", look.color)
        lines.append(line)
    width = len(heads) // len(lines)
    lines.append(Text("  head " + " ".join(str(head % 10) for head in range(width)), "dim"))
    return lines


def legend(timeline: Timeline) -> Text:
    """The signs of the states that occur at the last step."""
    last = timeline.heads[timeline.heads["step"] == timeline.records[-1].step]
    there = [state for state in LOOKS if (last["state"] == state).any()]
    line = Text("  ")
    for state in there:
        line.append(f"{LOOKS[state].sign} {state}  ", LOOKS[state].color)
    if last["uncertain"].any():
        line.append(f"{UNCERTAIN.sign} uncertain", UNCERTAIN.color)
    return line


def where(places: Mapping[str, Path]) -> None:
    """Say where everything lies."""
    console = Console(highlight=False, soft_wrap=True)
    console.print()
    for name, path in places.items():
        console.print(f"  {name:<12} {path}")


def _row(row: pd.Series, first: bool) -> str:
    half = (row["faithfulness_high"] - row["faithfulness_low"]) / 2
    return _cells(
        [
            str(row["step"]) if first else "",
            "" if not first else "-" if pd.isna(row["reward"]) else f"{row['reward']:.3f}",
            f"{row['kind']} {row['probes']}",
            *(str(row[name]) for name in COUNTS),
            "-" if row["verdict"] == "absent" else f"{row['faithfulness']:.2f}±{half:.2f}",
            f"{row['jaccard']:.2f}",
            f"{row['gap']:.1%}",
            row["verdict"],
            f"{row['seconds']:.1f}" if first else "",
        ]
    )


def _cells(cells: Sequence[str]) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS.values(), strict=True))
