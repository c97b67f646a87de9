"""A run's folder and its surroundings: claimed before anything long starts, never shared."""

from __future__ import annotations

import logging
import os
import secrets
import warnings
from pathlib import Path

import datasets
import transformers
from rich.console import Console
from transformers.trainer_utils import get_last_checkpoint

from tracking.errors import BadInput
from train import config
from train.config import Job

console = Console(highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """One line of a stage's progress, on the main process only."""
    if int(os.environ.get("RANK", "0")) == 0:
        console.print(line)


def checkpoint(job: Job) -> str | None:
    """The checkpoint to resume from, or None for a new run.

    Raises `BadInput` where the folder holds another run, or no checkpoint to resume from.
    """
    wanted = job.training.resume_from_checkpoint
    if wanted is None or str(wanted).lower() == "false":
        if holds_run(job.folder):
            raise BadInput(
                f"{job.folder} holds another run; choose a folder with --output_dir, or go on "
                "with it: --resume_from_checkpoint latest"
            )
        return None
    if str(wanted).lower() in ("latest", "true"):
        found = get_last_checkpoint(str(job.folder)) if job.folder.is_dir() else None
        if found is None:
            raise BadInput(f"{job.folder} has no checkpoint to resume from")
        return found
    if not (Path(wanted) / "trainer_state.json").is_file():
        raise BadInput(f"{wanted} is no checkpoint: it has no trainer_state.json")
    return str(wanted)


def write_config(job: Job) -> None:
    """Write `config.yaml`; `BadInput` where the folder cannot be written."""
    try:
        config.write(job)
    except OSError as error:
        raise BadInput(f"{job.folder} cannot be written: {error.strerror}") from None


def holds_run(folder: Path) -> bool:
    """Whether a folder has anything in it that training made."""
    patterns = ("checkpoint-*", "heads/*", "*.safetensors", "completions/*")
    return any(any(folder.glob(pattern)) for pattern in patterns)


def free_folder(folder: Path) -> Path:
    """`folder`, or the first of `folder`-2, -3, ... that holds no run."""
    number, found = 1, folder
    while holds_run(found):
        number += 1
        found = folder.with_name(f"{folder.name}-{number}")
    return found


def quieten() -> None:
    """Keep the libraries' own bars and notes out of the terminal."""
    datasets.disable_progress_bars()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger("httpx").setLevel(logging.WARNING)


def set_up_wandb(job: Job) -> None:
    """W&B for this run: in its folder, offline where no key is set, one id over all resumes."""
    if "wandb" not in (job.training.report_to or []):
        return
    os.environ.setdefault("WANDB_PROJECT", "sparks")
    os.environ.setdefault("WANDB_DIR", str(job.folder))
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_RESUME", "allow")
    os.environ.setdefault("WANDB_RUN_ID", _wandb_id(job.folder))
    if not _wandb_key():
        os.environ.setdefault("WANDB_MODE", "offline")


def _wandb_id(folder: Path) -> str:
    path = folder / "wandb-id"
    if not path.exists():
        path.write_text(secrets.token_hex(4))
    return path.read_text().strip()


def _wandb_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    from wandb.sdk.lib import wbauth

    url = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    return wbauth.read_netrc_auth(host=url) is not None
