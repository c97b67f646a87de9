"""Benchmarks while a model trains: solved at step 0 and at checkpoints, beside its reward.

`RUN/evals/step-00000100/` has what `sparks eval` writes of a model. Nothing of the training is
changed: weights, random states and mode are as before, and a failure is logged and training goes
on. A job that is asked to end leaves the rest to the job that goes on from there.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tracking.errors import BadInput
from tracking.ranks import alone
from tracking.run_folder import RunFolder
from tracking.views.terminal import Table
from train.checkpoints.subject import usual_length
from train.config import Job
from train.evals.benchmarks import benchmarks
from train.evals.estimates import Estimate, estimates, write_summary
from train.evals.grading import Grader
from train.evals.problems import Benchmark
from train.evals.responses import Responses, evaluate
from train.evals.sampling import Request, Sampling, check_room, every_sample
from train.evals.scalars import Scalars
from train.model import Start

TEMPERATURE = 0.6  # of several responses to a problem; one alone is greedy

log = logging.getLogger(__name__)


class AskedToEnd(Exception):
    """Raised out of an evaluation between two batches."""


@dataclass(frozen=True)
class Plan:
    """What is solved and at which checkpoints: every `every`-th."""

    benchmarks: list[Benchmark]
    requests: list[Request]
    sampling: Sampling
    every: int


def plan(job: Job, start: Start) -> Plan | None:
    """What a job's `eval_benchmarks...` mean, None where it names none; `BadInput` as
    `sparks eval`."""
    ours = job.ours
    if not ours.eval_benchmarks:
        return None
    if ours.eval_benchmarks_every < 1:
        raise BadInput(f"eval_benchmarks_every is {ours.eval_benchmarks_every}; at least 1")
    length = ours.eval_benchmarks_tokens
    if length is None:
        length = getattr(job.training, "max_completion_length", None)  # GRPO's
    sampling = Sampling(
        TEMPERATURE if ours.eval_benchmarks_samples > 1 else 0,
        max_new_tokens=usual_length(start.path) if length is None else length,
        seed=job.training.seed,
        system_prompt=ours.system_prompt,
    )
    named = benchmarks(ours.eval_benchmarks, limit=ours.eval_benchmarks_limit)
    problems = [problem for benchmark in named for problem in benchmark.problems]
    requests = every_sample(problems, ours.eval_benchmarks_samples, sampling)
    return Plan(named, requests, sampling, ours.eval_benchmarks_every)


class BenchmarkCallback(TrainerCallback):
    """Carries out a plan in a run. `asked` says whether the job is to end.

    Raises `BadInput` where responses are too long for the model.
    """

    def __init__(self, plan: Plan, model: Any, tokenizer: Any, asked: Callable[[], bool]) -> None:
        check_room(model.config, tokenizer, plan.requests, plan.sampling)
        self.plan, self.tokenizer, self.asked = plan, tokenizer, asked
        self.grader = Grader(plan.benchmarks)
        self.view = Table()
        self.scalars = Scalars("benchmarks")

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        """Step 0; of a resumed run, what the job before has left of its checkpoint."""
        self._evaluate(args, state, model)

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        """The checkpoint that has just been written."""
        self._evaluate(args, state, model)

    def close(self) -> None:
        """End the graders' processes, and close TensorBoard's file."""
        self.grader.close()
        self.scalars.close()

    def _evaluate(self, args: TrainingArguments, state: TrainerState, model: Any) -> None:
        with alone(state.is_world_process_zero) as main:
            if main and self._due(args, state) and not self.asked():
                self._solve(args, state.global_step, model)

    def _solve(self, args: TrainingArguments, step: int, model: Any) -> None:
        try:
            self._show(args, step, self._estimates(Path(args.output_dir or "."), step, model))
        except AskedToEnd:
            self.view.note(f"step {step}: its benchmarks are left to the job that goes on")
        except Exception as error:
            log.exception("benchmarks failed at step %d; training goes on", step)
            self.view.note(f"step {step}: its benchmarks failed: {error}; training goes on")

    def _due(self, args: TrainingArguments, state: TrainerState) -> bool:
        """Whether this checkpoint is one of every so many."""
        if args.save_strategy == "steps" and state.save_steps >= 1:
            return state.global_step // int(state.save_steps) % self.plan.every == 0
        return round(state.epoch or 0) % self.plan.every == 0

    def _estimates(self, run: Path, step: int, model: Any) -> list[Estimate]:
        folder = RunFolder(run).evaluation(step)
        facts = {"model": f"{run}, step {step}", "weights": _hash(model)}
        rows = evaluate(
            model,
            self.tokenizer,
            self.plan.requests,
            self.plan.sampling,
            _responses(folder, {**facts, **self.plan.sampling.facts}),
            self.grader,
            done=self._go_on,
        )
        summary = estimates(rows)
        write_summary(summary, folder)
        return summary

    def _go_on(self, count: int) -> None:
        if self.asked():
            raise AskedToEnd

    def _show(self, args: TrainingArguments, step: int, summary: Sequence[Estimate]) -> None:
        accuracy = ", ".join(f"{each.benchmark} {each.average}" for each in summary)
        self.view.note(f"step {step} solves {accuracy}")
        scalars: dict[str, float] = {}
        for each in summary:
            name, share = f"eval/{each.benchmark}/avg@{each.samples}", each.average
            scalars |= {name: share.value, f"{name}_lo": share.low, f"{name}_hi": share.high}
        self.scalars.show(args, step, scalars)


def _responses(folder: Path, facts: dict[str, Any]) -> Responses:
    """The folder's responses; those of weights or settings that the run no longer has are put
    aside."""
    try:
        return Responses(folder, facts)
    except BadInput as other:
        aside = folder.parents[1] / "superseded" / f"evals-{folder.name}"
        aside.parent.mkdir(exist_ok=True)
        while aside.exists():
            aside = aside.with_name(f"{aside.name}.1")
        log.warning("put aside to %s: %s", aside, other)
        folder.rename(aside)
        return Responses(folder, facts)


def _hash(model: Any) -> str:
    """Of a model's weights as they are in memory."""
    digest = hashlib.sha256()
    for name, weight in model.named_parameters():
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
