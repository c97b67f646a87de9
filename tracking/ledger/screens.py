"""What the checkpoints that are being analysed will measure.

In a model of many heads and MLPs a record measures the nodes that its own scores make likely and
those that earlier ones made so. Several workers at several checkpoints tell each other as soon as
their scores are there, by a file for each step that is under way (`heads/.screen-00000040.json`,
places of nodes by contrast), which goes once the step has its record. What was heard so is held
against the records once these are there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from tracking.atomic import write_whole
from tracking.ledger.ledger import Ledger
from tracking.ledger.record import Analysis

PAUSE = 0.2  # seconds between two looks at what others are at


class OutOfTurn(Exception):
    """What was heard of an earlier step does not come true: its worker gave it up, or its record is
    another than its worker said."""


@dataclass(frozen=True)
class Screens:
    """What the worker at `step` says and hears; `awaited` are earlier steps without a record,
    each of which another worker had claimed."""

    ledger: Ledger
    step: int
    awaited: Collection[int] = ()
    heard: dict[tuple[int, str], list[int]] = field(default_factory=dict)  # by step and contrast

    def exchange(self, contrast: str, likely: Tensor) -> Tensor:
        """Tell others which nodes the scores of this step make `likely`, BoolTensor [node], and
        wait for what those of the awaited steps make so: BoolTensor [node], likely at any.

        Raises `OutOfTurn`.
        """
        path = self.ledger.screen_path(self.step)
        with self.ledger.alone():  # or a worker that begins takes it for a killed write's rest
            write_whole(path, json.dumps({**_read(path), contrast: _places(likely)}).encode())
        out = torch.zeros_like(likely)
        for step in sorted(self.awaited):
            self.heard[step, contrast] = self._likely_at(step, contrast)
            out[self.heard[step, contrast]] = True
        return out

    def confirm(self, analyses: Mapping[str, Analysis]) -> None:
        """Wait for the records of the steps that were heard of: this step's `analyses` measured
        what they did and nothing else of what was heard. Raises `OutOfTurn`."""
        for (step, contrast), places in self.heard.items():
            while not self._recorded(step):
                time.sleep(PAUSE)
            theirs = self.ledger.read(step).analyses[contrast].nodes.chosen
            ours = analyses[contrast].nodes.chosen
            if not (theirs[places].all() and ours[theirs].all()):
                raise OutOfTurn(f"the record of step {step} is not what its worker said")

    def withdraw(self) -> None:
        """Take back what this step's worker, or one that was killed at it, has said."""
        self.ledger.screen_path(self.step).unlink(missing_ok=True)

    def _likely_at(self, step: int, contrast: str) -> list[int]:
        while not self._recorded(step):
            places = _read(self.ledger.screen_path(step))
            if contrast in places:
                return places[contrast]
            time.sleep(PAUSE)
        return _places(self.ledger.read(step).analyses[contrast].nodes.chosen)

    def _recorded(self, step: int) -> bool:
        """Whether a step has its record; `OutOfTurn` where it has none and no worker is at it."""
        claimed = self.ledger.claimed(step)  # asked first: a claim ends after its record
        if step in self.ledger.steps():
            return True
        if not claimed:
            raise OutOfTurn(f"step {step} has no record, and no worker is at it")
        return False


def _places(nodes: Tensor) -> list[int]:
    return nodes.nonzero()[:, 0].tolist()


def _read(path: Path) -> dict[str, list[int]]:
    """Places of nodes by contrast; none where the step's worker has said nothing yet."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
