"""What a run shows in the terminal: a row per checkpoint, and at the end a map of its heads."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.text import Text
from tqdm.auto import tqdm

from tracking.timeline.summary import Summary
from tracking.timeline.timeline import Timeline
from tracking.views.palette import LOOKS, UNDECIDED

COUNTS = ("active", "emergent", "new", "pruned", "surviving", "undecided")
WIDTHS = {  # of the columns, in characters; of `pairs` more where a contrast's name is long
    "step": 7, "reward": 9, "pairs": 14, "active": 7, "emergent": 9, "new": 4, "pruned": 7,
    "surviving": 10, "undecided": 10, "faithful": 11, "jaccard": 8, "gap": 7, "verdict": 12,
    "seconds": 8,
}  # fmt: skip
SPARED = ("seconds", "gap", "jaccard", "undecided", "faithful")  # by a narrow terminal, in order


class Table:
    """Prints one row per checkpoint and contrast, as they come."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.titled: str | None = None  # what the reward column is called
        self.widths: Mapping[str, int] = WIDTHS

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
            room = self.console.width if self.console.is_terminal else None
            self.widths = widths(timeline, room)
            titles = {column: name if column == "reward" else column for column in WIDTHS}
            self._print(Text(self._line(titles), "bold"))
        for index, (_, row) in enumerate(rows.iterrows()):
            cells = _row(row, index == 0, self.widths["pairs"] - 2)
            self._print(Text(self._line(cells)))

    def failed(self, step: int, error: object) -> None:
        """In a row's place, where a checkpoint could not be analysed."""
        self._print(Text(f"{step:>6}  not analysed: {error}", "red"))

    def close(self, timeline: Timeline) -> None:
        """The map of the heads at the last step, a row per layer, by contrast."""
        step = timeline.records[-1].step
        for contrast in timeline.contrasts:
            self._print(Text(f"\nheads on {contrast!r} pairs at step {step}", "bold"))
            room = self.console.width if self.console.is_terminal else None
            for line in head_map(timeline.at(step, contrast), room):
                self._print(line)
        self._print(legend(timeline), wrap=True)

    def sentences(self, timeline: Timeline) -> None:
        """What happened, in one sentence for each contrast."""
        for contrast in timeline.contrasts:
            self._print(Text("\n" + Summary.of(timeline, contrast).sentence), wrap=True)

    def note(self, text: str) -> None:
        """A line between the rows."""
        self._print(Text(text, "dim"))

    def _line(self, cells: Mapping[str, str]) -> str:
        line = "".join(f" {cells[name]:>{width - 1}}" for name, width in self.widths.items())
        return line[1:]

    def _print(self, text: Text, wrap: bool = False) -> None:
        wrap = wrap and self.console.is_terminal
        with tqdm.external_write_mode():  # a progress bar steps aside
            self.console.print(text, soft_wrap=not wrap)


def widths(timeline: Timeline, room: int | None) -> dict[str, int]:
    """The columns to show and how wide each is, with a space before; where `room` is not None, as
    many as fit in so many characters, and then long names of contrasts are cut."""
    longest = max(len(_pairs(row)) for _, row in timeline.counts.iterrows())
    shown = {**WIDTHS, "pairs": max(WIDTHS["pairs"], longest + 2)}
    if room is None:
        return shown
    for name in SPARED:
        if sum(shown.values()) - 1 > room:
            del shown[name]
    over = max(sum(shown.values()) - 1 - room, 0)
    return {**shown, "pairs": max(shown["pairs"] - over, WIDTHS["pairs"])}


def head_map(heads: pd.DataFrame, room: int | None = None) -> list[Text]:
    """One line per layer, the last on top: every head's sign in its state's colour.

    `heads` are the rows of one step and contrast of a timeline. Signs stand apart where `room`
    characters are enough for that.
    """
    lines = []
    width = len(heads) // heads["layer"].nunique()
    space = " " if room is None or 6 + 2 * width <= room else ""
    for layer, row in sorted(heads.groupby("layer"), reverse=True):
        line = Text(f"  L{layer:<4}" if not space else f"  L{layer:<3}")
        for state, undecided in zip(row["state"], row["undecided"], strict=True):
            look = UNDECIDED if undecided else LOOKS[state]
            line.append(f"{space}{look.sign}", look.color)
        lines.append(line)
    lines.append(Text("  head " + space.join(str(head % 10) for head in range(width)), "dim"))
    return lines


def legend(timeline: Timeline) -> Text:
    """The signs of the states that occur at the last step."""
    last = timeline.heads[timeline.heads["step"] == timeline.records[-1].step]
    there = [state for state in LOOKS if (last["state"] == state).any()]
    line = Text("  ")
    for state in there:
        line.append(f"{LOOKS[state].sign} {state}  ", LOOKS[state].color)
    if last["undecided"].any():
        line.append(f"{UNDECIDED.sign} undecided", UNDECIDED.color)
    return line


def where(places: Mapping[str, Path]) -> None:
    """Say where everything lies."""
    console = Console(highlight=False, soft_wrap=True)
    console.print()
    for name, path in places.items():
        console.print(f"  {name:<12} {path}")


def _row(row: pd.Series, first: bool, room: int) -> dict[str, str]:
    """What stands in each column; step, reward and seconds only once for all contrasts."""
    return {
        "step": str(row["step"]) if first else "",
        "reward": "" if not first else "-" if pd.isna(row["reward"]) else f"{row['reward']:.3f}",
        "pairs": _pairs(row, room),
        **{name: str(row[name]) for name in COUNTS},
        "faithful": "-" if row["verdict"] == "absent" else _faithful(row),
        "jaccard": f"{row['jaccard']:.2f}",
        "gap": f"{row['gap']:.1%}" if row["gap"] < 10 else ">999%",
        "verdict": str(row["verdict"]),
        "seconds": f"{row['seconds']:.1f}" if first else "",
    }


def _faithful(row: pd.Series) -> str:
    half = (row["faithfulness_high"] - row["faithfulness_low"]) / 2
    exact = f"{row['faithfulness']:.2f}±{half:.2f}"
    return exact if len(exact) < WIDTHS["faithful"] else f"{row['faithfulness']:.0f}±{half:.0f}"


def _pairs(row: pd.Series, room: int = sys.maxsize) -> str:
    contrast, number = str(row["contrast"]), f" {row['pairs']}"
    if len(contrast) + len(number) > room:
        contrast = contrast[: max(room - len(number) - 1, 1)] + "…"
    return contrast + number
