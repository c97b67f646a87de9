"""Where a job's curves go (W&B, TensorBoard, ...): they may fail, training goes on.

A resumed job logs again what was logged of the steps that it trains again, so W&B is rewound to the
checkpoint. It counts rows by itself: the last row that belongs to a checkpoint is kept beside the
run, in `RUN/wandb-rows.json`, by training step. Its entry is written when all that is said of a
checkpoint has been logged; a job that was killed before has logged nothing that would stand twice.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import wandb
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations import get_reporting_integration_callbacks
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from wandb.errors import CommError
from wandb.sdk.lib import wbauth

from tracking.atomic import write_whole
from tracking.errors import BadInput
from tracking.run_folder import RunFolder
from train.config import Job

USERS = ("WANDB_RESUME", "WANDB_RESUME_FROM", "WANDB_FORK_FROM", "WANDB_RUN_ID")

log = logging.getLogger(__name__)


def begin_wandb(job: Job, step: int = 0) -> None:
    """Begin the run in W&B, which the trainer then logs to: in its folder, under one id over all
    resumes, with the recipe in its config; offline where no key is set or W&B cannot be reached.
    A run that goes on from the checkpoint of `step` is rewound to it, online; where that cannot be,
    a line says so. `WANDB_...` variables that the user has set win. Call it once `config.yaml` is
    written; other processes than the main one do nothing.

    Raises `BadInput` where W&B refuses.
    """
    if "wandb" not in (job.training.report_to or []) or int(os.environ.get("RANK", "0")):
        return
    try:
        began = _reach(job, wandb.Settings(), step)
        recipe = RunFolder(job.folder).config()
        began.config.update({"job": job.name, "recipe": recipe}, allow_val_change=True)
    except Exception as error:  # its service raises what is no wandb.Error
        raise BadInput(f"W&B: {one_line(error)}; or train without it: --report_to none") from None


def join_wandb(job: Job) -> None:
    """Log to the run of a training in watch mode, beside it, where that reports to W&B; where W&B
    refuses, that is told and stops nothing. Offline this is a run folder of its own with the same
    id, which `wandb sync` adds to the run."""
    if "wandb" not in (job.training.report_to or []):
        return
    beside = wandb.Settings(x_primary=False, x_update_finish_state=False)
    try:
        _reach(job, beside)
    except (wandb.Error, OSError, ValueError) as error:
        log.warning("W&B: %s; records are made all the same", one_line(error))


def leave_wandb() -> None:
    """Send what is left for W&B, if it was joined."""
    with contextlib.suppress(Exception):  # its process may be dead
        wandb.finish()


def _reach(job: Job, settings: wandb.Settings, step: int = 0) -> wandb.Run:
    """The run in W&B; offline where that cannot be reached. In watch mode several processes write
    to it."""
    os.environ.setdefault("WANDB_SILENT", "true")
    mode = os.environ.get("WANDB_MODE") or (None if wandb_key() else "offline")
    if job.watched and mode in (None, "online"):
        mode = "shared"
    row = last_row(job.folder, step) if step else None
    if row is not None and mode not in (None, "online"):
        log.warning("W&B is %s and not rewound: rows after step %d stand there twice", mode, step)
    elif row is not None:
        try:
            return _begin(job, mode, settings, row)
        except wandb.Error as error:
            why = one_line(error)
            log.warning("W&B: %s; not rewound: rows after step %d stand there twice", why, step)
            wandb.teardown()  # or the run's id would be in use
    try:
        return _begin(job, mode, settings)
    except CommError as error:
        log.warning("W&B cannot be reached, the run is kept offline: %s", one_line(error))
        wandb.teardown()  # or the run's id would be in use
        return _begin(job, "offline", settings)


def _begin(job: Job, mode: Any, settings: wandb.Settings, row: int | None = None) -> wandb.Run:
    """The run under its id; rewound to a row of it, where one is given."""
    env = os.environ.get
    number = env("WANDB_RUN_ID") or _wandb_id(job.folder)
    return wandb.init(
        settings=settings,
        project=env("WANDB_PROJECT", "sparks"),
        dir=env("WANDB_DIR", str(job.folder)),
        id=number,
        # one of the two, and not both
        resume=env("WANDB_RESUME", "allow") if row is None else None,  # type: ignore[arg-type]
        resume_from=None if row is None else f"{number}?_step={row}",
        mode=mode,
        name=env("WANDB_NAME") or job.training.run_name or job.folder.name,
        reinit="finish_previous",  # of a job before this one in the same process
    )


def wandb_key() -> bool:
    """Whether the user is logged in to W&B, by environment or by `wandb login`."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    url = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    return wbauth.read_netrc_auth(host=url) is not None


def _wandb_id(folder: Path) -> str:
    path = folder / "wandb-id"
    kept = path.read_text().strip() if path.exists() else ""
    if not kept:
        kept = secrets.token_hex(4)
        write_whole(path, kept.encode())
    return kept


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


def tell_preempted() -> None:
    """Let W&B show the run as preempted, if it is shown there."""
    with contextlib.suppress(Exception):  # its process may be dead
        if wandb.run is not None:
            wandb.run.mark_preempting()


def shield(trainer: Trainer) -> None:
    """From now on a failure of what the trainer reports to is told once, and stops nothing."""
    kinds = tuple(get_reporting_integration_callbacks(trainer.args.report_to))
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, kinds):
            for name in dir(callback):
                if name.startswith("on_"):
                    setattr(callback, name, _told_once(trainer, callback, getattr(callback, name)))


def _told_once(trainer: Trainer, callback: Any, report: Callable) -> Callable:
    @wraps(report)
    def shielded(*arguments: Any, **keys: Any) -> Any:
        name = next(key for key, kind in INTEGRATION_TO_CALLBACK.items() if type(callback) is kind)
        reported = trainer.args.report_to or []
        if name not in reported:
            return None
        try:
            return report(*arguments, **keys)
        except Exception as error:
            message = "%s failed: %s; it shows nothing more of this run, which goes on"
            log.warning(message, name, one_line(error))
            # also what TRL and the tracker would still send there
            trainer.args.report_to = [other for other in reported if other != name]
            return None

    return shielded


def one_line(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
