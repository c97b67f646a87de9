"""Stages of a training: a run that goes on from another's model (`track_base: RUN`), with one
timeline of both.

The earlier run's records and its prompt pairs are taken over into the later one's `heads/base/`
before its first step, and are what its own records go on from; its steps count on from theirs.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tracking.errors import BadInput
from tracking.ledger.ledger import Ledger
from tracking.ledger.record import PROCEDURE, Record
from tracking.pairs.frozen import load_pairs, pairs_hash
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.run_folder import RunFolder
from train import model
from train.cache import made_once
from train.config import Job
from train.run.manifest import Manifest


@dataclass(frozen=True)
class Base:
    """What a later stage takes over: the records of the stages before it, in order, their prompt
    pairs by contrast, and the model of step 0, which is loaded when called."""

    records: Sequence[Record]
    pairs: dict[str, PromptPairs]
    model: Callable[[], Any]


def base_of(job: Job) -> Base | None:
    """What the job takes over, or has taken over already; None where it is no later stage.

    Raises `BadInput` where `track_base` is the job's own run, or none that its model is of, where
    that run has no record of it, or where its records were made with other settings or contrasts.
    """
    if not job.ours.track_base:
        return None
    if Path(job.ours.track_base).resolve() == job.folder.resolve():
        raise BadInput(f"track_base {job.ours.track_base} is this very run; name an earlier one")
    first, ledger = first_model(job), RunFolder(job.folder).ledger
    records = ledger.base.records() if ledger.offset else _earlier_records(job)
    if not ledger.pairs_path.exists():  # they are frozen after the records are taken over
        ledger = RunFolder(Path(job.ours.track_base)).ledger
    base = Base(records, load_pairs(ledger.pairs_path), first)
    _check_same(job, base)
    return base


def take_over(job: Job, base: Base) -> None:
    """Write the base's records into the job's run, where they are not there already: all of them
    or none."""

    def write(folder: Path) -> None:
        for record in base.records:
            Ledger(folder).write(record)

    made_once(RunFolder(job.folder).ledger.base.folder, write)


def first_model(job: Job) -> Callable[[], Any]:
    """What loads the model of step 0: what the job starts from, or the first stage of it did.

    Raises `BadInput` where the run of an earlier stage is gone.
    """
    keys = {"track_base": job.ours.track_base}
    while run := keys["track_base"]:
        keys = {"track_base": None, **_config(run)}
        # no `config.load`: the arguments of two trainings share their state in one process
        named = dataclasses.replace(
            job.model,
            model_name_or_path=keys["model_name_or_path"],
            model_revision=keys["model_revision"],
        )
        training = copy.copy(job.training)
        training.seed = keys["seed"]
        job = dataclasses.replace(job, model=named, training=training)
    return partial(model.on_cpu, job, model.start(job))


def _config(run: str) -> dict[str, Any]:
    keys = RunFolder(Path(run)).config()
    if not {"model_name_or_path", "model_revision", "seed"} <= keys.keys():
        raise BadInput(f"track_base {run}: it is no run of a training; it has no whole config.yaml")
    return keys


def _earlier_records(job: Job) -> list[Record]:
    """Those of the earlier run, up to the model that the job starts from."""
    run = job.ours.track_base or ""
    ledger = RunFolder(Path(run)).ledger
    step = ledger.offset + _begins_at(job)
    records = [record for record in ledger.records() if record.step <= step]
    if not records or records[0].step or records[-1].step != step:
        raise BadInput(
            f"track_base {run}: it lacks the record of step 0 or of step {step}; sparks track "
            f"{run} makes them"
        )
    return records


def _begins_at(job: Job) -> int:
    """The step of the earlier run, by its trainer's count, whose model the job starts from."""
    run, start = Path(job.ours.track_base or ""), Path(job.model.model_name_or_path or "")
    if start.resolve() not in (run.resolve(), *(p.resolve() for p in run.glob("checkpoint-*"))):
        raise BadInput(
            f"track_base is {run}, and model_name_or_path {start} no model of it; take {run}, its "
            "last, or a checkpoint in it"
        )
    try:
        step = Manifest.read(start).step
    except BadInput as damage:
        raise BadInput(f"track_base {run}: {start} is not complete: {damage}") from None
    if (start / "adapter_config.json").exists():
        raise BadInput(
            f"track_base {run}: {start} is an adapter; a stage starts from a whole model"
        )
    return step


def _check_same(job: Job, base: Base) -> None:
    where = f"track_base {job.ours.track_base}"
    if {record.pairs for record in base.records} != {pairs_hash(base.pairs)}:
        raise BadInput(f"{where}: its prompt pairs are not those of its records")
    if job.ours.track_pairs_file:
        raise BadInput(f"{where}: its prompt pairs are taken over; leave out track_pairs_file")
    named = job.ours.track_contrasts
    if named and {*named} != {*base.pairs}:
        raise BadInput(
            f"{where}: its contrasts are {', '.join(base.pairs)}, not {', '.join(named)}"
        )
    for name, value in dataclasses.asdict(job.settings).items():
        there = {record.settings.get(name) for record in base.records} - {value}
        if there and name not in PROCEDURE:
            raise BadInput(
                f"{where}: its records were made with track_{name} {there.pop()!r}, not {value!r}"
            )
