"""A run's ledger in W&B, as an artifact of the run; from there its report can be made elsewhere.

The artifact `ID-ledger`, of type `ledger`, has `config.yaml` and of `heads/` all records, the
prompt pairs, the marks and the tables: what a run's folder has, but for weights and completions.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import wandb

from tracking.errors import BadInput
from tracking.run_folder import RunFolder
from train.cache import cached, made_once
from train.config import Job
from train.run.console import say
from train.run.reporting import one_line, wandb_key

KIND = "ledger"

log = logging.getLogger(__name__)


def keep_ledger(job: Job) -> None:
    """Log the ledger to the run in W&B that is open, if there is one and the job wants that;
    offline it waits there for `wandb sync`. A failure is told and stops nothing."""
    if not job.ours.log_ledger or wandb.run is None:
        return
    try:
        artifact = artifact_of(RunFolder(job.folder), wandb.run.id)
        wandb.run.log_artifact(artifact)
    except Exception as error:  # its service raises what is no wandb.Error
        log.warning("W&B: the ledger is not kept there: %s", one_line(error))
    else:
        say(f"ledger     {artifact.size / 1e6:.1f} MB to W&B, as {wandb.run.id}-{KIND}")


def artifact_of(run: RunFolder, name: str) -> wandb.Artifact:
    """The ledger of a run of this id in W&B, not logged yet."""
    artifact = wandb.Artifact(f"{name}-{KIND}", KIND)
    heads = run.ledger.folder
    patterns = ("*.safetensors", "base/*.safetensors", "*.parquet", "missing-*.json")
    paths = [path for pattern in patterns for path in sorted(heads.glob(pattern))]
    for path in (run.config_path, *paths):
        if path.exists():
            artifact.add_file(str(path), str(path.relative_to(run.path)))
    return artifact


def fetched(name: str) -> Path:
    """The folder of the run `ENTITY/PROJECT/RUN`, RUN being its id, with the newest ledger that W&B
    has of it; it stays in the cache.

    `BadInput` where the name is none, nobody is logged in, or W&B has no such thing.
    """
    parts = name.rstrip("/").split("/")
    if len(parts) != 3 or not all(re.fullmatch(r"\w[\w.-]*", part) for part in parts):
        raise BadInput(f"wandb://{name} is no run; it must be wandb://ENTITY/PROJECT/RUN")
    if not wandb_key():
        raise BadInput(f"wandb://{name}: not logged in to W&B; run: wandb login")
    try:
        artifact = _artifact("/".join(parts))
        folder = cached("wandb").joinpath(*parts[:2], artifact.version, parts[2])
        return made_once(folder, lambda path: artifact.download(root=str(path)))
    except Exception as error:  # its service raises what is no wandb.Error
        raise BadInput(
            f"wandb://{name}: W&B gives no ledger ({one_line(error)}); the run must have been "
            "trained with --log_ledger true, and RUN be its id, the end of its page's address"
        ) from None


def _artifact(run: str) -> Any:
    """The newest ledger of `entity/project/id`."""
    return wandb.Api().artifact(f"{run}-{KIND}:latest", type=KIND)
