"""The ledger: one record per analysed checkpoint in `<run>/heads/`, and what follows from them.

A record is a safetensors file: tensors, and its facts as JSON in the header, with a checksum of
both. It is written whole or not at all. A checkpoint that should have one and has none is marked,
with the reason. Everything else under `heads/` (`timeline.parquet`) is a pure function of the
records.

A run that goes on where another ended is a later stage: that run's records lie in `heads/base/`.
Its own are named by its trainer's steps, which begin at 0 again; `records` gives all of them on
one axis. Its step 0 is the last of the base's records.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from tracking.atomic import write_whole
from tracking.errors import BadInput
from tracking.ledger.codec import read_record, to_bytes
from tracking.ledger.record import Record

PATIENCE = 0.1  # seconds within which a process that only looks whether a step is claimed lets go


@dataclass(frozen=True)
class Mark:
    """Why a checkpoint has no record.

    `why` is `failed` (its analysis raised an error), `preempted` (the job was asked to end: the
    resumed one makes the record), `budget` (tracking had taken its share of the time) or `deleted`
    (its checkpoint was gone before it was analysed).
    """

    step: int
    why: str
    message: str = ""


@dataclass(frozen=True)
class Ledger:
    """The records of one run, under `folder` (`<run>/heads`)."""

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))  # a string will do

    @property
    def pairs_path(self) -> Path:
        """Where the frozen pairs lie."""
        return self.folder / "pairs.safetensors"

    @property
    def timeline_path(self) -> Path:
        """One row per step, contrast and node; see `tracking.timeline.columns`."""
        return self.folder / "timeline.parquet"

    @property
    def counts_path(self) -> Path:
        """One row per step and contrast: reward, counts and what is known of the circuit."""
        return self.folder / "counts.parquet"

    @property
    def wiring_path(self) -> Path:
        """Wiring between checkpoints, where it was asked for; see `tracking.rewiring`."""
        return self.folder / "wiring.parquet"

    @property
    def base(self) -> Ledger:
        """The records of the stages before, where there are any."""
        return Ledger(self.folder / "base")

    @property
    def offset(self) -> int:
        """The step at which the run's own begin, on the axis of all stages; 0 for a first one."""
        return max(self.base.own_steps(), default=0)

    def path(self, step: int) -> Path:
        """Where the record of a step lies."""
        if step == 0 and (offset := self.offset):
            return self.base.path(offset)
        return self.folder / f"step-{step:08d}.safetensors"

    def steps(self) -> list[int]:
        """The steps that have a record, in order, as the run's trainer counts them."""
        return [*([0] if self.offset else []), *self.own_steps()]

    def own_steps(self) -> list[int]:
        """Those whose record the run itself has made."""
        names = (
            re.fullmatch(r"step-(\d+)", path.stem) for path in self.folder.glob("*.safetensors")
        )
        return sorted(int(name[1]) for name in names if name)

    def write(self, record: Record) -> Path:
        """Add a record; it is there whole or not at all."""
        path = self.path(record.step)
        write_whole(path, to_bytes(record))
        self.mark_path(record.step).unlink(missing_ok=True)
        return path

    def read(self, step: int) -> Record:
        """The record of a step; `BadInput` where it is missing or not a whole record."""
        return read_record(self.path(step))

    def records(self) -> list[Record]:
        """All records, in the order of their steps, which go on after those of a base. `BadInput`
        where their pairs differ."""
        records = [self.read(step) for step in self.own_steps()]
        if offset := self.offset:
            later = [replace(one, step=one.step + offset, began=offset) for one in records]
            records = [*self.base.records(), *later]
        hashes = {record.pairs for record in records}
        if len(hashes) > 1:
            raise BadInput(
                f"{self.folder}: the records were made with different pairs "
                f"({', '.join(sorted(hashes))}); they cannot be compared"
            )
        shapes = {(record.n_layers, record.n_heads, *record.analyses) for record in records}
        if len(shapes) > 1:
            raise BadInput(f"{self.folder}: the records are of different models or contrasts")
        return records

    def supersede(self, after: int) -> list[Path]:
        """Move records of steps later than `after` to `superseded/`; where they lie now. Marks of
        such steps go, what a killed write left, and what workers have said of their steps."""
        if not self.folder.exists():
            return []
        with self.alone():
            for step in self.marks():
                if step > after:
                    self.mark_path(step).unlink(missing_ok=True)
            self._clear()
            for path in self.folder.glob(".screen-*.json"):  # a live worker's record will do too
                path.unlink(missing_ok=True)
            later = [step for step in self.own_steps() if step > after]
            return [moved for step in later for moved in self.set_aside(step)]

    def set_aside(self, step: int) -> list[Path]:
        """Move a step's record, if there is one, to `superseded/`; where it lies now."""
        self.screen_path(step).unlink(missing_ok=True)
        if not self.path(step).exists():
            return []
        target = self.folder / "superseded" / self.path(step).name
        target.parent.mkdir(exist_ok=True)
        number = 1
        while target.exists():
            target = target.with_name(f"{self.path(step).stem}.{number}.safetensors")
            number += 1
        return [self.path(step).rename(target)]

    @contextmanager
    def claim(self, step: int, patience: float = PATIENCE) -> Iterator[bool]:
        """Within it no other process makes the record of a step; False where one does already.

        Claims end with their process, however it ends. A claim says nothing of records that are
        there: look for one once the step is claimed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / f".claim-{step:08d}")
        try:
            lock.acquire(timeout=patience, poll_interval=0.01)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()

    def claimed(self, step: int) -> bool:
        """Whether a process is making the record of a step."""
        with self.claim(step, patience=0) as free:
            return not free

    def set_aside_damaged(self) -> list[str]:
        """Move records that cannot be read to `superseded/`; what was wrong with each. What killed
        writes left goes."""
        if not self.folder.exists():
            return []
        damages = []
        with self.alone():
            self._clear()
            for step in self.own_steps():
                try:
                    self.read(step)
                except BadInput as error:
                    self.set_aside(step)
                    damages.append(f"{error}; set aside")
        return damages

    def _clear(self) -> None:
        """Remove what killed writes left; call it `alone`, as records are written."""
        for rest in self.folder.glob(".*.tmp"):
            rest.unlink(missing_ok=True)  # marks are written at any time

    def mark(self, mark: Mark) -> Path:
        """Say beside the records why a step has none."""
        path = self.mark_path(mark.step)
        write_whole(path, json.dumps(asdict(mark)).encode())
        return path

    def mark_failed(self, step: int, error: Exception) -> Path:
        """Say that a step's analysis failed."""
        return self.mark(Mark(step, "failed", f"{type(error).__name__}: {error}"))

    def marks(self) -> dict[int, Mark]:
        """Why steps have no record, by step, in order; `BadInput` where a mark cannot be read."""
        marks = {}
        for path in sorted(self.folder.glob("missing-*.json")):
            try:
                mark = Mark(**json.loads(path.read_bytes()))
                if self.mark_path(int(mark.step)) != path:
                    raise ValueError("another step's")
            except FileNotFoundError:  # its record has just been written
                continue
            except (OSError, TypeError, ValueError, OverflowError, RecursionError):
                raise BadInput(f"{path}: not a whole mark; remove it") from None
            if not self.path(mark.step).exists():  # else a write was killed before its last act
                marks[mark.step] = mark
        return marks

    def before(self, step: int, checkpoints: Iterable[int] = ()) -> int:
        """The last step before this one that was saved: with a record, a mark or among
        `checkpoints`; 0 where there is none."""
        saved = {*self.steps(), *self.marks(), *checkpoints}
        return max((other for other in saved if other < step), default=0)

    def mark_path(self, step: int) -> Path:
        """Where the mark of a step lies that has no record."""
        return self.folder / f"missing-{step:08d}.json"

    def screen_path(self, step: int) -> Path:
        """Where the worker at a step says what it will measure; see `tracking.ledger.screens`."""
        return self.folder / f".screen-{step:08d}.json"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within it no other process adds a record, moves one or derives anything from them: what
        is written last is of all of them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".derive"):
            yield

    def write_timeline(self, nodes: pd.DataFrame, counts: pd.DataFrame) -> None:
        """Write the derived tables: nodes over time, and how many are in each state."""
        for path, table in ((self.timeline_path, nodes), (self.counts_path, counts)):
            self.write_table(path, table)

    def write_table(self, path: Path, table: pd.DataFrame) -> None:
        """Write a derived table; it is there whole or not at all."""
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False)
        write_whole(path, buffer.getvalue())
