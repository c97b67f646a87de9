"""What a run shows in the terminal: a row per checkpoint, at the end a map of heads and MLPs and
what became of the behaviour."""

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
from tracking.views.palette import LOOKS, UNDECIDED, untold

COUNTS = ("active", "emergent", "faded")  # of heads and of MLPs
WIDTHS = {  # of the columns, in characters; of `pairs` more where a contrast's name is long
    "step": 7, "reward": 9, "behaviour": 11, "pairs": 14, "active": 8, "emergent": 9, "faded": 7,
    "wiring": 10, "faithful": 11, "verdict": 12, "seconds": 8,
}  # fmt: skip
SPARED = ("seconds", "faithful", "faded")  # by a narrow terminal, in order
READING = "heads+MLPs; behaviour in logits; wiring: what step {}'s still carries"


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
            self._print(Text(READING.format(first), "dim"), wrap=True)
            self._print(Text(self._line(titles), "bold"))
        for index, (_, row) in enumerate(rows.iterrows()):
            cells = _row(row, index == 0, self.widths["pairs"] - 2)
            self._print(Text(self._line(cells)))

    def failed(self, step: int, error: object) -> None:
        """In a row's place, where a checkpoint could not be analysed."""
        self._print(Text(f"{step:>6}  not analysed: {error}", "red"))

    def close(self, timeline: Timeline) -> None:
        """The map of heads and MLPs at the last step, a row per layer, by contrast."""
        step = timeline.records[-1].step
        for contrast in timeline.contrasts:
            self._print(Text(f"\nheads and MLPs on {contrast!r} pairs at step {step}", "bold"))
            room = self.console.width if self.console.is_terminal else None
            for line in node_map(timeline.at(step, contrast), room):
                self._print(line)
        self._print(legend(timeline), wrap=True)

    def sentences(self, timeline: Timeline) -> None:
        """What happened, for each contrast: the behaviour, who carries it, by which wires, and
        what supports that, a line each."""
        for contrast in timeline.contrasts:
            lines = Summary.of(timeline, contrast).parts
            for place, line in enumerate(lines):
                self._print(Text(line if place else f"\n{line}"), wrap=True)

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


def node_map(nodes: pd.DataFrame, room: int | None = None) -> list[Text]:
    """One line per layer, the last on top: the sign of every head and, beside them, of the MLP, in
    its state's colour; `?` where the checkpoint alone cannot tell.

    `nodes` are the rows of one step and contrast of a timeline. Signs stand apart where `room`
    characters are enough for that.
    """
    lines = []
    heads = int((nodes["kind"] == "head").sum()) // nodes["layer"].nunique()
    space = " " if room is None or 12 + 2 * heads <= room else ""
    for layer, row in sorted(nodes.groupby("layer"), reverse=True):
        line = Text(f"  L{layer:<{3 if space else 4}}")
        for kind, state, unsure in zip(row["kind"], row["state"], untold(row), strict=True):
            sign = UNDECIDED.sign if unsure else LOOKS[state].sign
            line.append(f"{space}{sign}" if kind == "head" else f"   {sign}", LOOKS[state].color)
        lines.append(line)
    places = space.join(str(head % 10) for head in range(heads))
    lines.append(Text(f"  head{space or ' '}{places}  MLP", "dim"))
    return lines


def legend(timeline: Timeline) -> Text:
    """The signs of the states that occur at the last step."""
    last = timeline.nodes[timeline.nodes["step"] == timeline.records[-1].step]
    there = [state for state in LOOKS if (last["state"] == state).any()]
    line = Text("  ")
    for state in there:
        line.append(f"{LOOKS[state].sign} {state}  ", LOOKS[state].color)
    if (untold(last) & (last["state"] != "undecided")).any():
        sign = f"{UNDECIDED.sign} in a state's colour"
        line.append(f"{sign}: this checkpoint alone cannot tell, or says otherwise")
    return line


def where(places: Mapping[str, Path]) -> None:
    """Say where everything lies."""
    console = Console(highlight=False, soft_wrap=True)
    console.print()
    for name, path in places.items():
        console.print(f"  {name:<12} {path}")


def _row(row: pd.Series, first: bool, room: int) -> dict[str, str]:
    """What stands in each column; step, reward and seconds only once for all contrasts."""
    absent = row["verdict"] == "absent"  # there is nothing that wires could carry
    return {
        "step": str(row["step"]) if first else "",
        "reward": "" if not first else "-" if pd.isna(row["reward"]) else f"{row['reward']:.3f}",
        "behaviour": _interval(row, "behaviour"),
        "pairs": _pairs(row, room),
        **{name: f"{row[name]}+{row[f'mlps_{name}']}" for name in COUNTS},
        "wiring": "-" if absent else _interval(row, "wiring_kept"),
        "faithful": "-" if absent else _interval(row, "faithfulness"),
        "verdict": str(row["verdict"]),
        "seconds": f"{row['seconds']:.1f}" if first else "",
    }


def _interval(row: pd.Series, name: str) -> str:
    """A figure and half of its 95 % interval, of as many digits as there is room for."""
    if pd.isna(row[name]):
        return "-"
    half = (row[f"{name}_high"] - row[f"{name}_low"]) / 2
    shown = (f"{row[name]:.{digits}f}±{half:.{digits}f}" for digits in (2, 1, 0))
    return next((one for one in shown if len(one) < WIDTHS["wiring"]), f"{row[name]:.0f}")


def _pairs(row: pd.Series, room: int = sys.maxsize) -> str:
    contrast, number = str(row["contrast"]), f" {row['pairs']}"
    if len(contrast) + len(number) > room:
        contrast = contrast[: max(room - len(number) - 1, 1)] + "…"
    return contrast + number
