"""Rows of W&B that a resumed job logs again: the run is rewound to the checkpoint it goes on from.

W&B counts rows by itself, so the last row that belongs to a checkpoint is kept beside the run:
`RUN/wandb-rows.json`, by training step. Its entry is written when all that is said of a checkpoint
has been logged; a job that was killed before has logged nothing later that would stand twice.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import wandb
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tracking.atomic import write_whole

USERS = ("WANDB_RESUME", "WANDB_RESUME_FROM", "WANDB_FORK_FROM", "WANDB_RUN_ID")


def last_row(run: Path, step: int) -> int | None:
    """The last row of W&B that belongs to a checkpoint or to steps before it, where that is known
    and the user has not said otherwise how W&B resumes."""
    if any(os.environ.get(name) for name in USERS):
        return None
    return _rows(run).get(step)


class RowsCallback(TrainerCallback):
    """Keeps the last row of every checkpoint; it comes after all callbacks that log."""

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        """The rows of what the job goes on from; those of later steps are void."""
        self._keep(args, state)

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        """The rows of the checkpoint that has just been written and analysed."""
        self._keep(args, state)

    def _keep(self, args: TrainingArguments, state: TrainerState) -> None:
        if not state.is_world_process_zero or "wandb" not in (args.report_to or []):
            return
        if wandb.run is None or not wandb.run.step:
            return
        folder, step = Path(args.output_dir or "."), state.global_step
        rows = {at: row for at, row in _rows(folder).items() if at < step}
        rows[step] = wandb.run.step - 1  # it is that of the next row
        write_whole(_path(folder), json.dumps(rows).encode())


def _rows(run: Path) -> dict[int, int]:
    """By step; none where the file is not there or not what it should be."""
    try:
        return {int(step): int(row) for step, row in json.loads(_path(run).read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _path(run: Path) -> Path:
    return run / "wandb-rows.json"
