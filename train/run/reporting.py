"""Where a job's curves go (W&B, TensorBoard, ...): they may fail, training goes on."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import wandb
from transformers import Trainer
from transformers.integrations import get_reporting_integration_callbacks
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from wandb.errors import CommError
from wandb.sdk.lib import wbauth

from tracking.atomic import write_whole
from tracking.errors import BadInput
from tracking.run_folder import RunFolder
from train.config import Job
from train.run.rewind import last_row

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
        except CommError as error:
            said = one_line(error)
            log.warning("W&B: %s; not rewound: rows after step %d stand there twice", said, step)
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
