"""The moments at which a job kills itself, each a place in the code that it runs."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from transformers import Trainer

from tracking import atomic
from tracking.callback import HeadTracker
from tracking.ledger import ledger
from tracking.ledger.ledger import Ledger
from tracking.pairs import frozen
from train.run import manifest, resume
from train.run.manifest import CheckpointCallback


@dataclass(frozen=True)
class Place:
    """A function by the module or class that it is called from; one that is not there is an error
    at once, also where it was renamed."""

    owner: Any
    name: str

    def __post_init__(self) -> None:
        if not callable(getattr(self.owner, self.name)):
            raise TypeError(f"{self.owner.__name__}.{self.name} is no function")

    def __reduce__(self) -> tuple[Callable[..., Place], tuple[object, str]]:
        """Modules go to another process by their names."""
        if isinstance(self.owner, ModuleType):
            return _in_module, (self.owner.__name__, self.name)
        return Place, (self.owner, self.name)


def _in_module(module: str, name: str) -> Place:
    return Place(import_module(module), name)


@dataclass(frozen=True)
class Fault:
    """Where a job kills itself: at the `count`-th call of a place, or, where `torn`, with half of
    what is written there. Another signal than SIGKILL comes before the call is made."""

    name: str
    where: Place
    count: int = 1
    torn: bool = False
    file: str = ""  # only calls for paths that have this in their names count
    number: int = signal.SIGKILL
    rank: int = 0  # of the process in which it happens

    def plant(self) -> None:
        """Put the fault where it is to happen, in this process only."""
        real, calls = getattr(self.where.owner, self.where.name), 0

        def deadly(*args: Any, **keys: Any) -> Any:
            nonlocal calls
            paths = [arg for arg in args if isinstance(arg, str | Path)]
            calls += self.file in "".join(map(str, paths))
            if calls == self.count and self.number != signal.SIGKILL:
                os.kill(os.getpid(), self.number)
            if calls < self.count or self.number != signal.SIGKILL:
                return real(*args, **keys)
            if self.torn:
                _tear(real, args)
            os.killpg(0, signal.SIGKILL)

        setattr(self.where.owner, self.where.name, deadly)


def _tear(write: Callable[..., object], args: Sequence[Any]) -> None:
    """Leave what `torch.save(value, path)` or `write_whole(path, data)` leave where they are cut
    off in the middle."""
    if isinstance(args[0], Path):
        path, data = args
        path.parent.mkdir(parents=True, exist_ok=True)
        path = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    else:
        value, path = args
        write(value, buffer := io.BytesIO())
        data = buffer.getvalue()
    Path(path).write_bytes(data[: len(data) // 2])


CHECKPOINT = Place(Trainer, "_save_checkpoint")
SEAL = Place(CheckpointCallback, "seal")
WRITE_RECORD = Place(ledger, "write_whole")

FAULTS = (
    Fault("in config.yaml", Place(atomic, "write_whole"), torn=True, file="config.yaml"),
    Fault("in the pairs", Place(frozen, "write_whole"), torn=True),
    Fault("before the first checkpoint", CHECKPOINT),
    Fault(
        "in a checkpoint, before its optimizer",
        Place(Trainer, "_save_optimizer_and_scheduler"),
        2,
    ),
    Fault("in a checkpoint, in its optimizer", Place(torch, "save"), 2, True, "optim"),
    Fault("in a checkpoint, before its manifest", SEAL, 2),
    Fault("in a checkpoint, in its manifest", Place(manifest, "write_whole"), 2, True, "sparks"),
    Fault("between a checkpoint and its record", Place(HeadTracker, "on_save"), 2),
    Fault("in a record", WRITE_RECORD, 3, True, "step-"),
    Fault("between a record and the timeline", Place(Ledger, "write_timeline"), 3),
    Fault("in the timeline", WRITE_RECORD, 2, True, "timeline"),
    Fault("after the last checkpoint", Place(HeadTracker, "on_train_end")),
    Fault(
        "in the finished model, before its manifest",
        SEAL,
        4,
    ),
)


AGAIN = (  # a resume is killed too: it has a checkpoint without a manifest to move aside
    Fault("in a checkpoint, before its manifest", SEAL, 2),
    Fault("in its resume", Place(resume, "write_whole"), 1, True, "resumes"),
    Fault("before the next checkpoint", CHECKPOINT),
)
