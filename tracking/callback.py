"""The tracker: a `TrainerCallback` that analyses every checkpoint as it is saved.

    from tracking import HeadTracker, PromptPairs, TrackingConfig

    trainer = GRPOTrainer(..., callbacks=[HeadTracker(TrackingConfig(pairs))])

It works with TRL's trainers and with a plain `Trainer`, in one process or several that each hold
the whole model. It never changes the training: parameters, gradients, optimizer, random states and
mode are as before, and a failure of its own is logged, marked in the ledger and training goes on
(`on_error="raise"` to stop instead). Mistakes of its user are raised before training begins.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import is_deepspeed_zero3_enabled

from tracking.clock import Clock
from tracking.contrast import Subject
from tracking.errors import BadInput, Postponed
from tracking.ledger.ledger import Mark
from tracking.ledger.reward import reward_between
from tracking.model.decoder import Decoder
from tracking.nodes.weight_change import Snapshot, snapshot
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.run_folder import RunFolder
from tracking.settings import Settings
from tracking.timeline.activity import Thresholds
from tracking.views.conclusion import conclude
from tracking.views.dashboard import Dashboard
from tracking.views.terminal import Table
from tracking.worker import Worker

log = logging.getLogger(__name__)


@dataclass
class TrackingConfig:
    """What a `HeadTracker` needs: pairs, and settings that differ from the defaults.

    `pairs`: a set of pairs, or several by contrast; each head is judged by contrast.
    `digit_ids`: the tokens that are digits, for what heads attend to.
    `models`: gives a resumed run the models that it had at other steps, each loaded when called,
    best on the CPU: that of step 0, for how far the weights have moved since, stays where it is
    loaded; those that it has no records of are moved to the device of training.
    """

    pairs: PromptPairs | Mapping[str, PromptPairs]
    settings: Settings = field(default_factory=Settings)
    thresholds: Thresholds = field(default_factory=Thresholds)
    digit_ids: Tensor | None = None
    models: Mapping[int, Callable[[], nn.Module]] = field(default_factory=dict)


class HeadTracker(TrainerCallback):
    """Analyses the model at step 0 and at every checkpoint, and shows what its heads do."""

    def __init__(self, config: TrackingConfig) -> None:
        if not isinstance(config, TrackingConfig):
            given = type(config).__name__
            raise BadInput(f"HeadTracker takes a TrackingConfig(pairs), not {given}")
        self.config, self.settings = config, config.settings
        pairs = config.pairs
        self.pairs = {"pairs": pairs} if isinstance(pairs, PromptPairs) else dict(pairs)
        self.view = Table()
        self.dashboard = Dashboard(raises=self.settings.on_error == "raise")
        self.clock = Clock(config.settings.budget)
        self.postponed = self.begun = False

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: object,
    ) -> None:
        """Fix the pairs, take up the ledger of a resumed run, analyse what has no record yet."""
        assert model is not None
        if is_deepspeed_zero3_enabled():
            raise BadInput("cannot track under ZeRO-3: no process holds whole weights; use ZeRO-2")
        if getattr(args, "fsdp", None) or os.environ.get("ACCELERATE_USE_FSDP") == "true":
            raise BadInput("cannot track under FSDP: no process holds whole weights; use DDP")
        self.run = RunFolder(Path(args.output_dir or "."))
        self.worker = Worker(
            self.run.ledger,
            self.pairs,
            self.settings,
            self.config.thresholds,
            models=self.config.models,
        )
        self.begun = True
        self.worker.check(model)
        with _alone(state) as main:
            if main:
                for damage in self.worker.take_up(state.global_step):
                    self.view.note(damage)
                base = self._base(state.global_step, model)
                self.worker.subject = Subject(base, self.config.digit_ids)
                self.dashboard.open(args, state.global_step, self.worker.facts())
                for step in self.worker.lacking(state.global_step):
                    self._track(args, state, step, model)

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: object,
    ) -> None:
        """Analyse the checkpoint that has just been written."""
        assert model is not None
        with _alone(state) as main:
            if main:
                self._track(args, state, state.global_step, model)

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        """Show what happened to the heads, write the report, say where everything lies."""
        try:
            if state.is_world_process_zero and self.worker.ledger.steps():
                # a killed job may have left the timeline without its last record
                conclude(self.run, self.worker.derive(), self.view)
        except Exception as error:
            if self.settings.on_error == "raise":
                raise
            log.exception("tracking failed at the end of training")
            self.dashboard.alert("Tracking failed", f"The report cannot be written: {error}")
        finally:
            self.dashboard.close()

    def postpone(self) -> None:
        """Leave all analyses for the job that goes on from here, also one that is under way.

        Made for a signal's handler: it ends an analysis by raising `Postponed` inside it.
        """
        self.postponed = True
        if self.begun and self.worker.analysing:
            self.worker.analysing = False  # a second signal finds nothing to end
            raise Postponed

    def _base(self, step: int, model: nn.Module) -> Snapshot | None:
        """The attention weights of step 0."""
        if step == 0:
            return snapshot(model)
        if 0 not in self.config.models:
            return None
        try:
            return snapshot(self.worker.model(0))
        except Exception as error:
            if self.settings.on_error == "raise":
                raise
            log.warning("the base model cannot be loaded, weights have no change: %s", error)
            return None

    def _track(
        self, args: TrainingArguments, state: TrainerState, step: int, model: nn.Module
    ) -> None:
        """Make the record of a step, `model` being that of the present one; or say why not."""
        try:
            if self.postponed:
                raise Postponed
            if step and self.clock.over:
                self._leave_out(Mark(step, "budget", f"budget of {self.settings.budget:g} spent"))
                return
            with self.clock.running():
                self._record(args, state, step, model)
        except Postponed:
            self._leave_out(Mark(step, "preempted", "the job was asked to end"))
        except Exception as error:
            if self.settings.on_error == "raise":
                raise
            log.exception("tracking failed at step %d; training goes on", step)
            self.view.failed(step, error)
            self.dashboard.alert("Tracking failed", f"Step {step}: {error}. Training goes on.")

    def _leave_out(self, mark: Mark) -> None:
        if not self.worker.ledger.path(mark.step).exists():
            with contextlib.suppress(OSError):  # without the mark the next job makes the record
                self.worker.ledger.mark(mark)
            self.view.note(f"step {mark.step} is not analysed now: {mark.message}")

    def _record(
        self, args: TrainingArguments, state: TrainerState, step: int, model: nn.Module
    ) -> None:
        def load() -> nn.Module:
            if step == state.global_step:
                return model
            return self.worker.model(step).to(Decoder.of(model).device)

        wanted = "reward" if hasattr(args, "num_generations") else "loss"
        before = self.worker.ledger.before(step, self.config.models)
        reward = reward_between(state.log_history, before, step, wanted)
        record = self.worker.work(step, load, reward)
        if record is not None:
            timeline = self.worker.derive()
            self.view.show(timeline, step)
            self.dashboard.show(timeline, self.clock.share if step else None)


@contextlib.contextmanager
def _alone(state: TrainerState) -> Iterator[bool]:
    """The main process works, the others wait: before, for its files, and after, for it."""
    _barrier()
    try:
        yield state.is_world_process_zero
    finally:
        _barrier()


def _barrier() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
