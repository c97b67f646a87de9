"""What every training job does before its trainer is made, and after."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset
from torch import nn
from transformers import Trainer
from transformers.integrations import is_deepspeed_zero3_enabled

from tracking.callback import HeadTracker, TrackingConfig
from tracking.errors import BadInput
from tracking.pairs.frozen import load_pairs, pairs_hash
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.run_folder import RunFolder
from tracking.worker import Worker
from train import config, launch, model
from train.archive import keep_ledger
from train.checkpoints import stages, waiting
from train.checkpoints.stages import Base
from train.checkpoints.waiting import KeepWeightsCallback, TrackableCallback
from train.comparison.live import ShiftCallback, ShiftPlan, shift_plan
from train.config import Job
from train.costs.describe import describe
from train.data import contrasts
from train.data.contrasts import digit_ids
from train.data.preview import preview
from train.evals.callback import BenchmarkCallback, Plan, plan
from train.model import Start
from train.run import preflight, resume
from train.run.console import quieten, say
from train.run.folder import check_room, on_main, preempted
from train.run.identity import Identity
from train.run.lock import Lock
from train.run.manifest import CheckpointCallback
from train.run.progress import show_progress
from train.run.reporting import RowsCallback, begin_wandb, shield, tell_preempted
from train.run.resume import AcceptedChangesCallback, StepsCallback, TokenCountCallback
from train.run.signals import PREEMPTED, Stop
from train.run.stop import (
    EvaluationEnded,
    Finished,
    FiniteWeightsCallback,
    PreemptionCallback,
    disk_full,
    end_evaluations_early,
)
from train.tasks.registry import rows_of, training_task
from train.upload import keep_section, leave_out

AGAIN = "go on with --resume_from_checkpoint latest"


@dataclass(frozen=True)
class Prepared:
    """All that a trainer is made from, checked; its weights are not loaded yet."""

    job: Job
    checkpoint: Path | None  # to resume from
    changes: list[str]  # between the job that made it and this one, accepted
    identity: Identity
    lock: Lock  # on the run's folder, until the job has ended
    start: Start
    teacher: Start | None  # of a distillation
    base: Base | None  # of a later stage
    train: Dataset
    evaluation: Dataset | None
    pairs: dict[str, PromptPairs]  # none where the run is not tracked
    solved: Plan | None  # benchmarks at its checkpoints
    shifted: ShiftPlan | None  # the policy beside its base, there too


class NeedsWeights(Exception):
    """Prompt pairs that cannot be made without the model: they take what it writes."""


def prepare(job: Job) -> Prepared | None:
    """Check and load everything but the weights; None where that was all (`--dry_run`).

    Raises `BadInput` for every mistake that can be found without training. What is returned holds
    the run's lock.
    """
    quieten()
    preflight.check_machine(job)
    launch.shard_on_cpus(job.training)
    training_task(job)
    if job.ours.track:
        contrasts.contrasts(job)
    first = resume.find(job, thorough=False)
    base = stages.base_of(job)
    start = model.start(job)
    say(f"model      {start.path}")
    if base is not None:
        say(f"stage      goes on from step {base.records[-1].step} of {job.ours.track_base}")
    teacher = model.teacher(job, start) if job.name == "distill" else None
    if teacher is not None:
        say(f"teacher    {teacher.path}")
    solved = plan(job, start)
    train = rows_of(job, job.script.dataset_train_split)
    evaluated = job.training.eval_strategy != "no"
    evaluation = rows_of(job, job.script.dataset_test_split) if evaluated else None
    say(f"data       {job.script.dataset_name or 'mixture'}: {len(train)} rows")
    say(f"evaluation {preflight.describe_evaluation(job, evaluation)}")
    preflight.check_rows(job, start.tokenizer, train)
    shifted = shift_plan(job, start, train)
    if job.ours.track:
        by = f", by sparks track {job.folder} --watch" if job.watched else ""
        say(f"tracking   {preflight.describe_tracking(job, len(train))}{by}")
    if shifted is not None:
        count = len(shifted.asked.problems)
        say(f"shift      {count} prompts beside the base at every checkpoint; no time counts it")
    identity = Identity.of(job, train)
    if first:
        resume.check(job, first, identity)
    if job.ours.dry_run:
        describe(job, start, train, _try(job, start, base, identity), teacher)
        _say_what_would_run(job)
        return None
    frozen = _pairs(job, start, base, first) if job.ours.track else {}
    with ExitStack() as undo:
        lock = undo.enter_context(Lock(job.folder))
        # Under the lock: another job may have changed the run since.
        checkpoint = resume.find(job)
        changes = resume.check(job, checkpoint, identity) if checkpoint else []
        job.training.distributed_state.wait_for_everyone()  # all have found the same
        job.training.model_init_kwargs = model.loading(job)
        if resume.wanted(job):
            on_main(partial(resume.take_up, job.folder, checkpoint, changes))
        on_main(partial(config.write, job))
        on_main(partial(preempted(job.folder).unlink, missing_ok=True))
        if base is not None:
            on_main(partial(stages.take_over, job, base))
        begin_wandb(job, int(checkpoint.name[11:]) if checkpoint else 0)
        if job.watched:
            on_main(partial(_take_up, job, checkpoint, frozen))
        undo.pop_all()
    return Prepared(
        job, checkpoint, changes, identity, lock, start, teacher, base, train, evaluation,
        frozen, solved, shifted,
    )  # fmt: skip


def _try(job: Job, start: Start, base: Base | None, identity: Identity) -> dict[str, PromptPairs]:
    """What is checked of a run under its lock, leaving it as it is; its prompt pairs, where they
    can be made without the model."""
    pairs: dict[str, PromptPairs] = {}
    checkpoint = resume.find(job)
    if checkpoint is not None:
        resume.check(job, checkpoint, identity)
    if job.ours.track:
        try:
            pairs = _pairs(job, start, base, checkpoint)
        except NeedsWeights:
            say("pairs      not tried: they take what the model itself writes")
    if not resume.wanted(job):  # that would change what the run is said to be made of
        with Lock(job.folder):
            on_main(partial(config.write, job))
    return pairs


def _take_up(job: Job, checkpoint: Path | None, frozen: dict[str, PromptPairs]) -> None:
    """Let watchers begin: they wait for the pairs."""
    step = int(checkpoint.name[11:]) if checkpoint else 0
    for damage in _worker(job, frozen).take_up(step):
        say(f"set aside  {damage}")


def _worker(job: Job, frozen: dict[str, PromptPairs]) -> Worker:
    return Worker(RunFolder(job.folder).ledger, frozen, job.settings, job.thresholds)


def finish(prepared: Prepared, trainer: Trainer) -> None:
    """Train, tracked; save the model as TRL's own scripts do.

    Raises `Stop` where the job is asked to end, its weights are no longer finite or the disk is
    full.
    """
    try:
        _finish(prepared, trainer)
    except Stop as stop:
        if stop.code == PREEMPTED:
            with suppress(BadInput):  # the exit code says it all the same
                on_main(preempted(prepared.job.folder).touch)
        raise


def _finish(prepared: Prepared, trainer: Trainer) -> None:
    job = prepared.job
    check_room(trainer)
    show_progress(trainer)
    shield(trainer)
    keep_section(trainer, RunFolder(job.folder))
    leave_out(trainer, RunFolder(job.folder))
    hashed = pairs_hash(prepared.pairs) if prepared.pairs else None
    checkpoints = CheckpointCallback(prepared.identity, hashed, job.training.save_total_limit)
    trainer.args.save_total_limit = None  # `checkpoints` sees to that
    limited = job.watched and checkpoints.limit
    end_evaluations_early(trainer)
    tracker = _tracker(prepared) if prepared.pairs and not job.watched else None
    preemption = PreemptionCallback(job.generation_steps, tracker)
    accepted = AcceptedChangesCallback(prepared.changes) if prepared.changes else None
    solver, shifts = _solver(prepared, trainer, preemption), _shifts(prepared, trainer, preemption)
    for callback in (
        checkpoints,
        KeepWeightsCallback() if limited else None,
        TrackableCallback(_worker(job, prepared.pairs)) if job.watched else None,
        tracker,
        solver,
        shifts,
        preemption,
        FiniteWeightsCallback(),
        TokenCountCallback(trainer),
        StepsCallback(),
        accepted,
        RowsCallback(),  # after all that logs
    ):
        if callback is not None:
            trainer.add_callback(callback)
    if prepared.checkpoint is None:
        _preview(prepared, trainer)
    say(f"training   {job.name} in {job.folder}")
    try:
        _train(prepared, trainer)
        if tracker is not None:
            spent, share = tracker.clock.spent, tracker.clock.share
            say(f"tracking   took {spent:.0f} s, {share:.0%} of the time since training was set up")
            on_main(partial(waiting.release, RunFolder(job.folder)))  # of a run that was watched
        if job.watched:
            say(f"tracking   {_progress(job)}")
        if not preemption.agreed or trainer.state.global_step >= trainer.state.max_steps:
            trainer.save_model(str(job.folder))
            if trainer.is_world_process_zero():
                files = [*job.folder.glob("*.safetensors")]
                checkpoints.seal(job.folder, files, trainer.state.global_step)
                if tracker is not None:
                    keep_ledger(job)
            trainer.end()
            return
    except Exception as error:
        if disk_full(error):
            raise Stop(f"the disk is full: {job.folder} cannot be written; {AGAIN}") from error
        raise
    finally:
        preemption.restore()
        for closed in (solver, shifts):
            if closed is not None:
                closed.close()
    tell_preempted()
    raise Stop(f"asked to end at step {trainer.state.global_step}; {AGAIN}", PREEMPTED)


def _progress(job: Job) -> str:
    recorded = RunFolder(job.folder).ledger.steps()
    saved = {0, *recorded, *waiting.analysable(job.folder)}
    made_by = f"sparks track {job.folder} --watch"
    return f"{len(recorded)} of {len(saved)} records so far; {made_by} makes the others"


def _train(prepared: Prepared, trainer: Trainer) -> None:
    checkpoint = prepared.checkpoint
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except EvaluationEnded:  # the one before the first step
        pass
    except Finished:  # ended between its last checkpoint and its end
        if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint:
            trainer._load_best_model()
        handler = trainer.callback_handler
        handler.on_train_end(trainer.args, trainer.state, trainer.control)


def _tracker(prepared: Prepared) -> HeadTracker:
    job, begin, checkpoints = prepared.job, prepared.start, {}
    if prepared.checkpoint is not None:
        checkpoints = waiting.analysable(job.folder)
    return HeadTracker(
        TrackingConfig(
            prepared.pairs,
            job.settings,
            job.thresholds,
            digit_ids=digit_ids(begin.tokenizer),
            models=model.at_steps(job, begin, checkpoints, model.on_cpu),
            load=partial(model.saved, job, begin, load=model.on_cpu),
            base=prepared.base and prepared.base.model,
        )
    )


def _solver(
    prepared: Prepared, trainer: Trainer, preemption: PreemptionCallback
) -> BenchmarkCallback | None:
    if prepared.solved is None:
        return None
    if is_deepspeed_zero3_enabled() or trainer.is_fsdp_enabled:
        raise BadInput(
            "eval_benchmarks under ZeRO-3 or FSDP: no process holds whole weights; solve them "
            f"afterwards: sparks eval {prepared.job.folder}"
        )
    tokenizer = prepared.start.tokenizer
    return BenchmarkCallback(prepared.solved, trainer.model, tokenizer, lambda: preemption.asked)


def _shifts(
    prepared: Prepared, trainer: Trainer, preemption: PreemptionCallback
) -> ShiftCallback | None:
    if prepared.shifted is None:
        return None
    devices = getattr(trainer.model, "hf_device_map", None) or {}
    if len(set(devices.values())) > 1:
        raise BadInput("track_shift is for a model on one device; start a process for each GPU")
    load = partial(model.on_cpu, prepared.job, prepared.start)
    tokenizer = prepared.start.tokenizer
    return ShiftCallback(prepared.shifted, tokenizer, load, lambda: preemption.asked)


def _pairs(
    job: Job, start: Start, base: Base | None, checkpoint: Path | None
) -> dict[str, PromptPairs]:
    path = RunFolder(job.folder).ledger.pairs_path
    if base is not None:
        frozen = base.pairs
    elif checkpoint is not None and path.exists():
        frozen = load_pairs(path)
    else:
        frozen = contrasts.build(job, start.tokenizer, lambda: _weights(job, start))
    preflight.describe_pairs(job, frozen)
    return frozen


def _preview(prepared: Prepared, trainer: Trainer) -> None:
    """Say what the model answers to the pairs as it is now; a watcher's first record does, too."""
    if prepared.job.watched or not trainer.is_world_process_zero() or is_deepspeed_zero3_enabled():
        return
    assert isinstance(trainer.model, nn.Module)
    for contrast, pairs in prepared.pairs.items():
        seen = preview(trainer.model, pairs, prepared.job.settings.batch_size)
        for number, line in enumerate(seen.lines(prepared.start.tokenizer)):
            say(f"{'' if number else contrast:10} {line}")


def _weights(job: Job, start: Start) -> Any:
    if job.ours.dry_run:
        raise NeedsWeights
    return model.weights(job, start)


def _say_what_would_run(job: Job) -> None:
    args = job.training
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    length = f"{args.max_steps} steps" if args.max_steps > 0 else f"{args.num_train_epochs} epochs"
    say(f"would run  {job.name}: {length}, learning rate {args.learning_rate}")
    say(f"           {batch} sequences a step")
    tokens = f"of at most {getattr(args, 'max_completion_length', None)} tokens"
    if job.name == "distill":
        say(f"           a completion a prompt {tokens}")
    if job.name == "grpo":
        say(f"           {args.num_generations} generations a prompt {tokens}")
        say(f"rewards    {', '.join(job.script.reward_funcs or [])}")
    say(f"settings   {RunFolder(job.folder).config_path}; nothing was trained")
