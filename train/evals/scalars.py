"""Numbers of a callback beside those of the trainer: in W&B, and in TensorBoard's own folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import wandb
from transformers import TrainingArguments

from tracking.views.dashboard import STEP, tensorboard_folder


class Scalars:
    """Shows numbers by step where a job reports to; TensorBoard follows one file in a folder, so
    each callback has one of its own `name`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.writer: Any = None  # TensorBoard's, from the first numbers on

    def show(self, args: TrainingArguments, step: int, scalars: Mapping[str, float]) -> None:
        """Numbers of a step by their names."""
        if "wandb" in (args.report_to or []) and wandb.run is not None:
            wandb.run.log({STEP: step, **scalars})
        if "tensorboard" not in (args.report_to or []):
            return
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter  # it takes a second to load

            folder = tensorboard_folder(args).with_name(self.name)
            # what a resumed run shows again is shown once
            self.writer = SummaryWriter(str(folder), purge_step=step or None)
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self.writer is not None:
            self.writer.close()
