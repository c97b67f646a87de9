"""The records of checkpoints that are analysed outside a training process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tracking.errors import BadInput
from tracking.ledger.ledger import Ledger
from tracking.ledger.record import PROCEDURE, Record
from tracking.settings import Settings
from tracking.timeline.shares import Shares
from tracking.views.terminal import Table
from tracking.worker import Worker
from train.run.console import say
from train.run.lock import Lock


def make_record(worker: Worker, step: int, work: Callable[[], Record | None], view: Table) -> None:
    """Show the row of a step's record, which `work` makes; or its failure."""
    try:
        record = work()
    except (BadInput, OSError, ValueError, RuntimeError) as error:
        view.failed(step, error)
        return
    if record is None:
        say(f"left       step {step}: another process is at it, or the run has left it")
    else:
        view.show(worker.derive(), worker.ledger.offset + step)


def set_aside_others(
    folder: Path, ledger: Ledger, settings: Settings, can_be_made: Sequence[int]
) -> None:
    """Move records that cannot be read, or were made with other settings, out of the way; not
    while a job is at work in `folder` that makes more of the kind."""
    others = dict(_others(ledger, _science(dataclasses.asdict(settings))))
    if not others:
        return
    if 0 in others and ledger.offset:
        raise BadInput(
            f"{folder}: what it begins with is the record of an earlier run (track_base), "
            f"{others[0]}; keep to these"
        )
    with Lock(folder):
        for step, why in others.items():
            ledger.set_aside(step)
            again = "made again" if step in can_be_made else "its checkpoint is gone"
            say(f"set aside  the record of step {step}: {why}; {again}")


def out_of_turn(ledger: Ledger) -> list[int]:
    """Steps whose wiring is held against another step than the first, or against none, as the
    first had no record yet when theirs were made."""
    if not ledger.steps():
        return []
    first = ledger.records()[0].step
    return [step for step in ledger.own_steps() if _is_late(ledger.read(step), first)]


def _is_late(record: Record, first: int) -> bool:
    return record.step > first and any(
        one.wiring.against not in (None, first) if one.wiring else Shares.of(one).there
        for one in record.analyses.values()
    )


def set_aside_out_of_turn(folder: Path, ledger: Ledger, can_be_made: Sequence[int]) -> list[int]:
    """Move records that are `out_of_turn` out of the way, but for those whose checkpoint is gone;
    their steps."""
    late = out_of_turn(ledger)
    for step in late:
        if step in can_be_made:
            with Lock(folder):
                ledger.set_aside(step)
            say(f"set aside  the record of step {step}: made before the first one's; made again")
        else:
            say(f"wiring     not known at step {step}: its record was made before the first one's")
    return [step for step in late if step in can_be_made]


def _others(ledger: Ledger, wanted: dict[str, Any]) -> Iterator[tuple[int, str]]:
    for step in ledger.steps():
        try:
            if _science(ledger.read(step).settings) != wanted:
                yield step, "made with other settings"
        except BadInput as error:
            yield step, str(error)


def _science(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that change what is found."""
    return {k: v for k, v in settings.items() if k not in PROCEDURE}
