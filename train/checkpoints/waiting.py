"""The weights of checkpoints that wait for their record, also after the checkpoint is deleted.

Where records are made by another process, `save_total_limit` may delete a checkpoint before it is
analysed. Its weights are linked into `heads/waiting/` as soon as it is saved, without the state of
the optimizer, and go from there once the step has its record.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tracking.model.adapters import unwrap
from tracking.model.sharded import is_sharded
from tracking.ranks import alone
from tracking.run_folder import RunFolder
from tracking.worker import Worker
from train.checkpoints import folders
from train.run import resume
from train.run.manifest import Manifest
from train.run.resume import silent

STATE = ("optimizer", "scheduler", "scaler", "rng_state", "global_step")  # begin names of files


class KeepWeightsCallback(TrainerCallback):
    """Keeps the weights of every checkpoint until its step has a record.

    It comes after the callback that seals checkpoints and deletes old ones: that never deletes the
    one just saved.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            keep(RunFolder(Path(args.output_dir or ".")))

    on_save = on_train_begin


class TrackableCallback(TrainerCallback):
    """Refuses before the first step a model that no watcher could analyse, as tracking in the
    training process does: its adapters, its architecture, the pairs. Where processes share the
    weights no pass is tried: their layout is looked at, and their adapters."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        sharded = is_sharded(model)
        with alone(state.is_world_process_zero) as main:
            if main:
                unwrap(model)
                if not sharded:
                    self.worker.check(model)


def keep(run: RunFolder) -> None:
    """Link the weights of all complete checkpoints without a record; for the training process."""
    kept = resume.complete(run.waiting.path, silent)
    for step, path in run.waiting.checkpoints().items():
        if step not in kept:
            shutil.rmtree(path, ignore_errors=True)  # a job was killed while it linked them
    recorded = run.ledger.steps()
    for step, path in resume.complete(run.path, silent).items():
        if step not in kept and step not in recorded:
            try:
                _link(path, run.waiting.checkpoint(step))
            except OSError:
                if step not in run.ledger.steps():  # else it was analysed, and goes, meanwhile
                    raise


def release(run: RunFolder) -> None:
    """Delete weights whose step has its record by now."""
    recorded = run.ledger.steps()
    for step, path in run.waiting.checkpoints().items():
        if step in recorded:
            shutil.rmtree(path, ignore_errors=True)  # another process may be at it


def analysable(folder: Path, note: Callable[[str], None] = silent) -> dict[int, Path]:
    """Where the weights of each step of a run lie, in order: kept ones, else the complete
    checkpoint's. `note` is given a line on each checkpoint that is not complete."""
    saved = resume.complete(folder, note)  # first: what is deleted meanwhile is kept by then
    kept = resume.complete(RunFolder(folder).waiting.path, silent)
    return dict(sorted({**saved, **kept}.items()))


def unchanged(run: RunFolder, step: int) -> Callable[[], bool]:
    """Whether the weights of a step are those that they were when this was called, wherever they
    lie now: a resumed run moves later checkpoints aside and makes others of their names."""

    def seen() -> set[tuple[tuple[int, int], ...]]:
        places = (run.checkpoint(step), run.waiting.checkpoint(step))
        return {tuple(files) for place in places if (files := folders.identity(place))}

    before = seen()
    return lambda: not seen().isdisjoint(before)


def _link(checkpoint: Path, target: Path) -> None:
    """A checkpoint once more without the optimizer's state; it takes no room while both are there,
    but on a file system without hard links."""
    manifest = Manifest.read(checkpoint)
    files = {name: of for name, of in manifest.files.items() if not name.startswith(STATE)}
    for name in files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(checkpoint / name, target / name)
        except OSError:
            shutil.copy2(checkpoint / name, target / name)
    dataclasses.replace(manifest, files=files).write(target)
