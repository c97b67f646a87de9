"""A run's folder and its surroundings: claimed before anything long starts, never shared."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from peft import PeftModel
from transformers import Trainer

from tracking.errors import BadInput


def on_main(work: Callable[[], object]) -> None:
    """Do something to the run's folder, on the main process only; `BadInput` where it cannot be
    written."""
    if int(os.environ.get("RANK", "0")) != 0:
        return
    try:
        work()
    except OSError as error:
        raise BadInput(f"{error.filename} cannot be written: {error.strerror}") from None


def check_room(trainer: Trainer) -> None:
    """Raise `BadInput` where the disk has no room for a single checkpoint: the weights, and two
    states of the optimizer for what is trained."""
    folder = Path(trainer.args.output_dir or ".")
    parameters = list(trainer.model.parameters())  # type: ignore[union-attr]
    # ZeRO-3 leaves an empty one in the place of a whole parameter
    counts = [getattr(p, "ds_numel", p.numel()) for p in parameters]
    sizes = [
        (count * p.element_size(), p.requires_grad)
        for p, count in zip(parameters, counts, strict=True)
    ]
    trained = sum(size for size, trains in sizes if trains)
    saved = trained if isinstance(trainer.model, PeftModel) else sum(size for size, _ in sizes)
    needed = 2 * trained + saved
    if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
        needed += saved  # beside their shards of the optimizer these keep the weights once more
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise BadInput(
            f"{folder.resolve()}: {free / 1e9:.2f} GB are free, a checkpoint takes "
            f"{needed / 1e9:.2f} GB"
        )


def preempted(folder: Path) -> Path:
    """A file that is there where the last job on a run was asked to end: for launchers that end
    with a code of their own."""
    return folder / "preempted"


def holds_run(folder: Path) -> bool:
    """Whether a folder has anything in it that training made."""
    patterns = ("checkpoint-*", "heads/*", "*.safetensors", "completions/*")
    return any(any(folder.glob(pattern)) for pattern in patterns)


def free_folder(folder: Path) -> Path:
    """`folder`, or the first of `folder`-2, -3, ... that holds no run."""
    number, free = 1, folder
    while holds_run(free):
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free
