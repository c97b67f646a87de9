"""What training changes, while it trains: at every checkpoint the policy beside its base, on texts
that both write to the same prompts.

`RUN/shift/step-00000040/` has what `sparks compare RUN@0 RUN` writes of a model and its base.
Nothing of the training is changed: weights, random states and mode are as before, and a failure is
logged and training goes on.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tracking.atomic import write_whole
from tracking.comparison.shift.section import shift_section
from tracking.comparison.shift.shift import FEWEST, Shift
from tracking.comparison.shift.shown import decoder_of, page, positions
from tracking.comparison.shift.texts import Texts
from tracking.errors import BadInput
from tracking.model.adapters import without_adapters
from tracking.model.decoder import Decoder
from tracking.ranks import alone
from tracking.run_folder import RunFolder
from tracking.timeline.activity import Thresholds
from tracking.views.terminal import Table
from tracking.worker import whole
from train.comparison.output import write
from train.comparison.shift import BATCH, judged_by, sampling_of
from train.comparison.texts import Asked, asked_in, drawn_problems, drawn_texts
from train.config import Job
from train.evals.callback import AskedToEnd
from train.evals.sampling import Sampling, check_room, every_sample
from train.evals.scalars import Scalars
from train.launch import sharded
from train.model import Start, configuration

NAMED = 6  # nodes that come out, in a line

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShiftPlan:
    """What both models answer, and what comes out."""

    asked: Asked
    sampling: Sampling
    thresholds: Thresholds


def shift_plan(job: Job, start: Start, train: Dataset) -> ShiftPlan | None:
    """What a job's `track_shift` means, on problems of its training rows; None where it is 0.

    Raises `BadInput` where too few problems are asked for, the rows are no chats of one question,
    responses are too long for the model, or the job does not track inline.
    """
    count = job.ours.track_shift
    if not count:
        return None
    if count < FEWEST:
        raise BadInput(f"track_shift is {count}; it must be 0 or at least {FEWEST} prompts")
    if not job.ours.track or job.watched:
        raise BadInput("track_shift needs track, and track_mode inline; or sparks compare later")
    if sharded(job.training):
        raise BadInput(
            "track_shift under ZeRO-3 or FSDP: no process holds whole weights; look afterwards: "
            f"sparks compare {job.folder}@0 {job.folder}"
        )
    asked = drawn_problems(asked_in(train, "the training data"), "the training data", count)
    if len(asked.problems) < FEWEST:
        raise BadInput(
            f"track_shift: {len(asked.problems)} different questions in the data; at least {FEWEST}"
        )
    config = configuration(start, job.model.model_revision).get_text_config()
    tokens = getattr(job.training, "max_completion_length", None)
    sampling = sampling_of(tokens, config.max_position_embeddings, asked.system_prompt)
    check_room(config, start.tokenizer, every_sample(asked.problems, 1, sampling), sampling)
    return ShiftPlan(asked, sampling, job.thresholds)


class ShiftCallback(TrainerCallback):
    """Carries out a plan in a run. `load` loads the model that the run began with, on the CPU,
    where it is not at hand under an adapter; `ending` says whether the job is to end."""

    def __init__(
        self,
        plan: ShiftPlan,
        tokenizer: Any,
        load: Callable[[], Any],
        ending: Callable[[], bool],
    ) -> None:
        self.plan, self.tokenizer, self.load, self.ending = plan, tokenizer, load, ending
        self.view, self.scalars = Table(), Scalars("shift")

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        """The checkpoint that has just been written."""
        with alone(state.is_world_process_zero) as main:
            if main:
                self._look(args, state.global_step, model)

    on_train_begin = on_save  # of a resumed run, what the job before has left of its checkpoint

    def close(self) -> None:
        """Close TensorBoard's file."""
        self.scalars.close()

    def _look(self, args: TrainingArguments, step: int, model: Any) -> None:
        run = RunFolder(Path(args.output_dir or "."))
        if not step or step in run.shifts():  # at step 0 the two are one model
            return
        try:
            shift = self._written(run, step, model)
            self._show(args, step, run.ledger.offset + step, shift)
        except AskedToEnd:
            self.view.note(f"step {step}: its shift is left to the job that goes on")
        except Exception as error:
            log.exception("what training changed failed at step %d; training goes on", step)
            self.view.note(f"step {step}: its shift failed: {error}; training goes on")

    def _written(self, run: RunFolder, step: int, model: Any) -> Shift:
        """The shift of a step, once all of it lies in its folder."""
        shift, texts = self._shift(model)
        folder, decode = run.shift(step), decoder_of(self.tokenizer)
        shutil.rmtree(folder, ignore_errors=True)  # what a job that was killed has left
        folder.mkdir(parents=True)
        place = run.ledger.offset + step
        shown = page(
            texts, shift.divergence, decode, f"Step {place} and its base on the same texts"
        )
        write_whole(folder / "texts.html", shown.encode())
        table = positions(texts, shift.divergence, decode)
        write([shift_section(f"step-{place}", "its base", shift, table)], folder)
        asked = {"step": place, "asked": len(self.plan.asked.problems)}
        nodes = {"nodes": _carriers(shift), "why_not": shift.why_not}
        row = {**asked, **_known(shift.figures), **nodes}
        write_whole(folder / "figures.json", json.dumps(row, indent=1).encode())
        return shift

    def _shift(self, model: Any) -> tuple[Shift, Texts]:
        trained, asked = Decoder.of(model), self.plan.asked
        base = without_adapters(model)
        if base is None:
            base = whole(self.load).to(trained.device, trained.dtype)
        texts, writers = [], {"base": base, "trained": model}
        for place in range(0, len(asked.problems), BATCH):
            if self.ending():
                raise AskedToEnd
            some = asked.problems[place : place + BATCH]
            texts += drawn_texts(writers, self.tokenizer, some, self.plan.sampling)
        together = Texts.of(texts)
        judged = judged_by(self.plan.thresholds, trained.graph)
        return Shift.of(base, model, together, judged, BATCH), together

    def _show(self, args: TrainingArguments, step: int, place: int, shift: Shift) -> None:
        """`place` is the step as a run of several stages counts it."""
        self.view.note(f"step {place} shifts {_line(shift)}")
        named = {f"shift/{name}": one for name, one in _known(shift.figures).items()}
        scalars = {name: one for name, one in named.items() if one is not None}
        self.scalars.show(args, step, {**scalars, "shift/nodes": len(_carriers(shift))})


def _carriers(shift: Shift) -> list[str]:
    return shift.carried.carriers if shift.carried else []


def _known(figures: Mapping[str, float]) -> dict[str, float | None]:
    """None for what is not finite, which JSON does not have."""
    return {name: one if math.isfinite(one) else None for name, one in figures.items()}


def _line(shift: Shift) -> str:
    policies = f"{shift.divergence.mean:.3g} nats a token from its base"
    if shift.carried is None:
        return f"{policies}; nobody is said to carry it: {shift.why_not}"
    carriers = _carriers(shift)
    named = " ".join(carriers[:NAMED]) + (" ..." if len(carriers) > NAMED else "")
    where = shift.carried.places
    at = f"{where.count} places of {where.prompts} prompts ({where.held:.0%} of it)"
    return f"{policies}; at {at} {named or 'no node comes out'}"
