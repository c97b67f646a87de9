"""Why a job ends before its last step: it is told to, or it cannot go on."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterable
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations import is_deepspeed_zero3_enabled

from tracking.callback import HeadTracker
from train.run.signals import EARLY, PREEMPTED, SIGNALS, Stop

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Finished(Exception):
    """Raised out of the trainer where a resumed run has no step left to train."""


class EvaluationEnded(Exception):
    """Raised out of an evaluation that a job's end does not wait for."""


class PreemptionCallback(TrainerCallback):
    """On SIGTERM or SIGUSR1 saves a checkpoint after a step and ends training, on all ranks.

    The step is the first after which a resumed run repeats an undisturbed one: `every` is how many
    steps a batch of generations lasts. `agreed` says afterwards whether it was asked to. The
    tracker leaves the analysis of that checkpoint to the resumed job.
    """

    def __init__(self, every: int, tracker: HeadTracker | None) -> None:
        self.every, self.tracker = every, tracker
        self.asked = False  # on this rank
        self.agreed = False  # on all
        self.before = {number: signal.getsignal(number) for number in SIGNALS}
        for number in SIGNALS:
            signal.signal(number, self._ask)

    def restore(self) -> None:
        """Give the signals their former handlers."""
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._agree():
            raise Stop(EARLY, PREEMPTED)
        if 0 < state.max_steps <= state.global_step:
            raise Finished

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._agree() and state.global_step % self.every == 0:
            control.should_save = control.should_log = control.should_training_stop = True

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._agree():
            self.on_step_end(args, state, control)  # the step before the evaluation is the one
            raise EvaluationEnded

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._agree():  # asked while the checkpoint was analysed
            control.should_training_stop = True

    def _agree(self) -> bool:
        """Whether any rank was asked; the same answer on all."""
        self.agreed = self.agreed or any_rank(self.asked)
        if self.agreed and self.tracker is not None:
            self.tracker.postponed = True
        return self.agreed

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if self.tracker is not None:
            self.tracker.postpone()


def end_evaluations_early(trainer: Trainer) -> None:
    """Let `EvaluationEnded` end an evaluation between two steps, and nothing else: what was to be
    saved after it is saved, and the training's end comes as for any other step. An evaluation that
    was not finished gives no metrics."""
    whole = trainer._maybe_log_save_evaluate

    def ended(*arguments: Any, **keys: Any) -> None:
        try:
            whole(*arguments, **keys)
        except EvaluationEnded:
            trainer.control.should_evaluate = False
            whole(*arguments, **keys)

    trainer._maybe_log_save_evaluate = ended  # type: ignore[method-assign]


class FiniteWeightsCallback(TrainerCallback):
    """Stops a run whose weights are no longer finite before they are saved as a checkpoint."""

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        if control.should_save or control.should_log:
            self._check(state, model)

    on_epoch_end = on_step_end

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        self._check(state, model)

    def _check(self, state: TrainerState, model: nn.Module | None) -> None:
        assert model is not None
        if any_rank(not _finite(_held(parameter) for parameter in model.parameters())):
            raise Stop(
                f"the weights are not finite at step {state.global_step}: training has diverged; "
                "go on from the last checkpoint with other settings, a lower learning rate for one"
            )


def _finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether all numbers are; the devices are asked once each."""
    by_device: dict[torch.device, list[torch.Tensor]] = {}
    for tensor in tensors:
        by_device.setdefault(tensor.device, []).append(tensor.isfinite().all())
    return all(bool(torch.stack(each).all()) for each in by_device.values())


def _held(parameter: torch.Tensor) -> torch.Tensor:
    """What this process holds of a parameter: all of it, or its shard (FSDP2, ZeRO-3)."""
    whole: Any = parameter.detach()
    if isinstance(whole, DTensor):
        return whole.to_local()
    return parameter.ds_tensor if is_deepspeed_zero3_enabled() else whole  # type: ignore[attr-defined]


def any_rank(here: bool) -> bool:
    """Whether it is so on any rank; all must ask."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return here
    backend = torch.distributed.get_backend()
    device = "cuda" if backend == "nccl" else "cpu"
    flag = torch.tensor(int(here), device=device)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
    return bool(flag)


def disk_full(error: BaseException | None) -> bool:
    """Whether an error of any library, or one that it came of, is that of a full disk."""
    messages = [os.strerror(number) for number in FULL]
    # torch's own, at the end of the disk
    messages += ["PytorchStreamWriter failed writing", "unexpected pos "]
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        if any(text in str(error) for text in messages):
            return True
        error = error.__cause__ or error.__context__
    return False
