"""What the checkpoints that are being analysed will measure.

In a model of many heads and MLPs a record measures the nodes that its own scores make likely and
those that earlier ones made so. Several workers at several checkpoints tell each other as soon as
their scores are there, by a file for each step that is under way (`heads/.screen-00000040.json`,
places of nodes by contrast), which goes once the step has its record.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tracking.atomic import write_whole
from tracking.ledger.ledger import Ledger

PAUSE = 0.2  # seconds between two looks at what others are at


class OutOfTurn(Exception):
    """An earlier step that was to be waited for is no longer anybody's, and has no record."""


@dataclass(frozen=True)
class Screens:
    """What the worker at `step` says and hears; `awaited` are earlier steps without a record,
    each of which another worker had claimed."""

    ledger: Ledger
    step: int
    awaited: Collection[int] = ()

    def exchange(self, contrast: str, likely: Tensor) -> Tensor:
        """Tell others which nodes the scores of this step make `likely`, BoolTensor [node], and
        wait for what those of the awaited steps make so: BoolTensor [node], likely at any.

        Raises `OutOfTurn`.
        """
        path = self.ledger.screen_path(self.step)
        write_whole(path, json.dumps({**_read(path), contrast: _places(likely)}).encode())
        out = torch.zeros_like(likely)
        for step in sorted(self.awaited):
            out[self._likely_at(step, contrast)] = True
        return out

    def withdraw(self) -> None:
        """Take back what this step's worker, or one that was killed at it, has said."""
        self.ledger.screen_path(self.step).unlink(missing_ok=True)

    def _likely_at(self, step: int, contrast: str) -> list[int]:
        while True:
            claimed = self.ledger.claimed(step)  # asked first: a claim ends after its record
            if step in self.ledger.steps():
                return _places(self.ledger.read(step).analyses[contrast].nodes.chosen)
            if not claimed:
                raise OutOfTurn(f"step {step} has no record, and no worker is at it")
            places = _read(self.ledger.screen_path(step))
            if contrast in places:
                return places[contrast]
            time.sleep(PAUSE)


def _places(nodes: Tensor) -> list[int]:
    return nodes.nonzero()[:, 0].tolist()


def _read(path: Path) -> dict[str, list[int]]:
    """Places of nodes by contrast; none where the step's worker has said nothing yet."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
