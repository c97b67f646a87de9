"""The tracker: a `TrainerCallback` that analyses every checkpoint as it is saved.

    from tracking import HeadTracker, PromptPairs, TrackingConfig

    trainer = GRPOTrainer(..., callbacks=[HeadTracker(TrackingConfig(pairs))])

It works with TRL's trainers and with a plain `Trainer`, in one process or several. These make an
analysis together; where they share the model's weights (ZeRO-3, FSDP2), the first of them analyses
the checkpoint instead of the live model. It never changes the training: parameters, gradients,
optimizer, random states and mode are as before, and a failure of its own is logged, marked in the
ledger and training goes on (`on_error="raise"` to stop instead). Mistakes of its user are raised
before training begins.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tracking.clock import Clock
from tracking.contrast import Subject
from tracking.errors import BadInput, Postponed
from tracking.ledger.ledger import Mark
from tracking.ledger.reward import reward_between
from tracking.model.adapters import unwrap
from tracking.model.sharded import is_sharded, load_saved
from tracking.nodes.weight_change import Snapshot, snapshot
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.ranks import alone
from tracking.run_folder import RunFolder
from tracking.settings import Settings
from tracking.timeline.activity import Thresholds
from tracking.views.conclusion import conclude
from tracking.views.dashboard import Dashboard
from tracking.views.terminal import Table
from tracking.worker import Worker, whole

log = logging.getLogger(__name__)


@dataclass
class TrackingConfig:
    """What a `HeadTracker` needs: pairs, and settings that differ from the defaults.

    `pairs`: a set of pairs, or several by contrast; each head is judged by contrast.
    `digit_ids`: the tokens that are digits, for what heads attend to.
    `models`: gives a resumed run the models that it had at other steps, each loaded when called,
    best on the CPU: that of step 0, for how far the weights have moved since, stays where it is
    loaded; those that it has no records of are moved to the device of training. Where processes
    share the weights, that of step 0 is needed from the start.
    `load`: the model in a checkpoint's folder, as it is read where processes share the weights.
    `base`: gives a later stage the model of the first one's step 0, for how far the weights have
    moved; its records lie in `heads/base/` (`Ledger`).
    """

    pairs: PromptPairs | Mapping[str, PromptPairs]
    settings: Settings = field(default_factory=Settings)
    thresholds: Thresholds = field(default_factory=Thresholds)
    digit_ids: Tensor | None = None
    models: Mapping[int, Callable[[], nn.Module]] = field(default_factory=dict)
    load: Callable[[Path], nn.Module] = load_saved
    base: Callable[[], nn.Module] | None = None


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
        self.postponed = self.begun = self.sharded = False

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
        self.sharded = is_sharded(model)
        self.run = RunFolder(Path(args.output_dir or "."))
        self.worker = Worker(
            self.run.ledger,
            self.pairs,
            self.settings,
            self.config.thresholds,
            models=self._models(state.global_step),
        )
        self.begun = True
        with alone(state.is_world_process_zero, partial(self.worker.help, model=model)) as main:
            if main:
                self._begin(args, state.global_step, model)
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
        self.worker.models = self._models(state.global_step)
        with alone(state.is_world_process_zero, partial(self.worker.help, model=model)) as main:
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
        with alone(state.is_world_process_zero) as main:
            if main:
                self._conclude()

    def postpone(self) -> None:
        """Leave all analyses for the job that goes on from here, also one that is under way.

        Made for a signal's handler: it ends an analysis by raising `Postponed` inside it.
        """
        self.postponed = True
        if self.begun:
            self.worker.postpone()

    def _models(self, now: int) -> Mapping[int, Callable[[], nn.Module]]:
        """What loads the models of other steps than `now`; where no process holds all weights, that
        of `now` too."""
        given = self.config.models
        if not self.sharded or now in given:
            return given
        if now == 0:
            raise BadInput(
                "where processes share the weights (ZeRO-3, FSDP), what the run begins with is "
                "loaded: TrackingConfig(models={0: a function that returns it})"
            )
        return {**given, now: partial(self.config.load, self.run.checkpoint(now))}

    def _begin(self, args: TrainingArguments, step: int, model: nn.Module) -> None:
        """Check the model, fix the pairs, take up the ledger, keep what all records need."""
        unwrap(model)  # adapters that cannot be read, which a base alone does not show
        present = self.worker.model(step).to(args.device) if self.sharded else model
        self.worker.check(present)
        for damage in self.worker.take_up(step):
            self.view.note(damage)
        self.worker.subject = Subject(self._base(step, present), self.config.digit_ids)
        self.dashboard.open(args, step, self.worker.facts())
        if step == 0 and (offset := self.run.ledger.offset):
            self.view.show(self.worker.derive(), offset)

    def _conclude(self) -> None:
        try:
            if self.worker.ledger.steps():
                # a killed job may have left the timeline without its last record
                conclude(self.run, self.worker.derive(), self.view)
        except Exception as error:
            if self.settings.on_error == "raise":
                raise
            log.exception("tracking failed at the end of training")
            self.dashboard.alert("Tracking failed", f"The report cannot be written: {error}")
        finally:
            self.dashboard.close()

    def _base(self, step: int, model: nn.Module) -> Snapshot | None:
        """The attention weights of step 0."""
        if step == 0 and self.config.base is None:
            return snapshot(model)
        load = self.config.base or self.config.models.get(0)
        if load is None:
            return None
        try:
            return snapshot(whole(load))
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
        live = step == state.global_step and not self.sharded

        def load() -> nn.Module:
            return model if live else self.worker.model(step).to(args.device)

        wanted = "reward" if hasattr(args, "num_generations") else "loss"
        before = self.worker.ledger.before(step, self.config.models)
        reward = reward_between(state.log_history, before, step, wanted)
        record = self.worker.work(step, load, reward, shared=live)
        if record is not None:
            timeline = self.worker.derive()
            self.view.show(timeline, self.run.ledger.offset + step)
            self.dashboard.show(timeline, self.clock.share if step else None)
