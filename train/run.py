"""A run's folder and its surroundings: claimed before anything long starts, never shared."""

from __future__ import annotations

import json
import logging
import os
import secrets
import warnings
import zipfile
from pathlib import Path

import datasets
import transformers
import wandb
import yaml
from rich.console import Console
from safetensors import SafetensorError, safe_open
from wandb.sdk.lib import wbauth

from tracking.atomic import write_whole
from tracking.errors import BadInput
from tracking.ledger import Ledger
from train import config
from train.config import Job

FREE = ("track_on_error", "track_batch_size", "track_memory_gb")  # may change in a resumed run

console = Console(highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """One line of a stage's progress, on the main process only."""
    if int(os.environ.get("RANK", "0")) == 0:
        console.print(line)


def checkpoint(job: Job) -> str | None:
    """The checkpoint to resume from, or None for a new run.

    `latest` takes the newest one that is whole. Raises `BadInput` where the folder holds another
    run, no whole checkpoint, or a run that this job cannot go on with.
    """
    wanted = str(job.training.resume_from_checkpoint or "false")
    if wanted.lower() == "false":
        if holds_run(job.folder):
            raise BadInput(
                f"{job.folder} holds another run; choose a folder with --output_dir, or go on "
                "with it: --resume_from_checkpoint latest"
            )
        return None
    latest = wanted.lower() in ("latest", "true")
    found = _newest_whole(job.folder) if latest else Path(wanted)
    if not latest and (damage := _damage(found)):
        raise BadInput(f"{found} is no whole checkpoint: {damage}")
    if found.resolve().parent != job.folder.resolve():
        raise BadInput(
            f"{found} belongs to another run; go on in its folder: --output_dir {found.parent}"
        )
    _check_goes_on(job, found)
    return str(found)


def whole_checkpoints(folder: Path) -> dict[int, Path]:
    """The whole checkpoints of a run by step, in order; says which are not whole."""
    found = {}
    for path in folder.glob("checkpoint-*"):
        if path.name[11:].isdigit():
            damage = _damage(path)
            if damage is None:
                found[int(path.name[11:])] = path
            else:
                say(f"skipped    {path}: {damage}")
    return dict(sorted(found.items()))


def _newest_whole(folder: Path) -> Path:
    found = whole_checkpoints(folder)
    if not found:
        raise BadInput(f"{folder} has no checkpoint to resume from")
    return found[max(found)]


def _damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, in a few words; None where it is whole."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())["global_step"]
    except (OSError, ValueError, LookupError, TypeError):
        return "it has no readable trainer_state.json"
    weights = list(checkpoint.glob("*.safetensors"))
    if not weights:
        return "it has no weights"
    for path in weights:
        try:
            with safe_open(path, "pt") as file:
                file.keys()
        except (SafetensorError, OSError):
            return f"{path.name} is damaged"
    for path in (*checkpoint.glob("*.pt"), *checkpoint.glob("*.pth")):
        if not zipfile.is_zipfile(path):
            return f"{path.name} is damaged"
    return None


def _check_goes_on(job: Job, found: Path) -> None:
    """Raise `BadInput` where the checkpoint's run is another kind of job, has other probes, or is
    at its end already."""
    step = json.loads((found / "trainer_state.json").read_text())["global_step"]
    if 0 < job.training.max_steps <= step:
        raise BadInput(
            f"{found} is at step {step} of {job.training.max_steps} already; "
            "to train on, raise --max_steps"
        )
    try:
        text = (job.folder / "config.yaml").read_text()
        before = yaml.safe_load(text)
    except (OSError, yaml.YAMLError):
        return
    if not text.startswith(f"# sparks {job.name} "):
        raise BadInput(f"{job.folder} is no {job.name} run; its config.yaml says {text[2:14]!r}")
    for key, value in job.resolved.items():
        if not key.startswith("track_") or key in FREE or value == before.get(key, value):
            continue
        if key.startswith("track_probe"):
            raise BadInput(
                f"{key} is {value!r}, but this run's probes are frozen with {before[key]!r}"
            )
        raise BadInput(
            f"{key} is {value!r}, but this run's records were made with {before[key]!r}; go on "
            f"with that, and change it afterwards: sparks track {job.folder} --{key} ..."
        )
    ledger = Ledger(job.folder / "heads")
    if job.ours.track and ledger.steps() and not ledger.probes_path.exists():
        raise BadInput(f"{ledger.probes_path} is missing; without it records cannot be compared")


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
    datasets.utils.logging.set_verbosity(logging.CRITICAL)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger("httpx").setLevel(logging.WARNING)


def set_up_wandb(job: Job) -> None:
    """Begin the run in W&B, which the trainer then logs to: in its folder, offline where no key is
    set, under one id over all resumes, with the recipe in its config. `WANDB_...` variables that
    the user has set win. Call it once `config.yaml` is written; other processes than the main one
    do nothing.

    Raises `BadInput` where W&B refuses or cannot be reached.
    """
    if "wandb" not in (job.training.report_to or []) or int(os.environ.get("RANK", "0")):
        return
    os.environ.setdefault("WANDB_SILENT", "true")
    env = os.environ.get
    try:
        began = wandb.init(
            project=env("WANDB_PROJECT", "sparks"),
            dir=env("WANDB_DIR", str(job.folder)),
            id=env("WANDB_RUN_ID") or _wandb_id(job.folder),
            resume=env("WANDB_RESUME", "allow"),  # type: ignore[arg-type]
            mode=env("WANDB_MODE") or (None if wandb_key() else "offline"),  # type: ignore[arg-type]
            name=env("WANDB_NAME") or job.training.run_name or job.folder.name,
            reinit="finish_previous",  # of a job before this one in the same process
        )
        recipe = yaml.safe_load((job.folder / "config.yaml").read_text())
        began.config.update({"job": job.name, "recipe": recipe}, allow_val_change=True)
    except (wandb.Error, OSError, ValueError) as error:
        told = " ".join(str(error).split())
        raise BadInput(f"W&B: {told}; WANDB_MODE=offline trains without a network") from None


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
