"""What of a run goes to the Hub where it is pushed there (`push_to_hub`).

The trainer uploads the run's folder without its checkpoints, so report, picture and timeline go
with it. It writes the model card anew before that, and would lose the section that says what
training did to the heads.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from transformers import Trainer

from tracking.atomic import write_whole
from tracking.run_folder import RunFolder
from tracking.views.conclusion import put_section, section_of

STAYS = ("checkpoint-*/", "superseded/", "heads/superseded/", "heads/waiting/", "wandb/", ".lock")


def keep_section(trainer: Any, run: RunFolder) -> None:
    """From now on a card that the trainer writes keeps its section on heads."""
    write: Any = trainer.create_model_card

    @wraps(write)
    def write_and_keep(*arguments: Any, **keys: Any) -> None:
        section = section_of(run)
        write(*arguments, **keys)
        if section and trainer.is_world_process_zero():
            put_section(run, section)

    trainer.create_model_card = write_and_keep


def leave_out(trainer: Trainer, run: RunFolder) -> None:
    """Where the run is pushed, name in its `.gitignore`, which the Hub follows, what is to stay
    here: checkpoints that were set aside, with their optimizers, and W&B's files."""
    path = run.path / ".gitignore"
    if trainer.args.push_to_hub and trainer.is_world_process_zero() and not path.exists():
        write_whole(path, "".join(f"{name}\n" for name in STAYS).encode())
