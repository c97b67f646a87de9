"""What every training job does before its trainer is made, and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from datasets import Dataset
from transformers import Trainer

from tracking.callback import HeadTracker, TrackingConfig
from tracking.ledger import Ledger
from tracking.probes import ProbeSet, load_probes
from train import model, probes, run
from train.config import Job
from train.model import Start
from train.progress import show_progress
from train.run import say


@dataclass(frozen=True)
class Prepared:
    """All that a trainer is made from, checked; its weights are not loaded yet."""

    job: Job
    checkpoint: str | None  # to resume from
    start: Start
    train: Dataset
    evaluation: Dataset | None
    probes: dict[str, ProbeSet]  # none where the run is not tracked


def prepare(job: Job, load: Callable[[Job, str], Dataset]) -> Prepared | None:
    """Check and load everything but the weights; None where that was all (`--dry_run`).

    `load(job, split)` gives the rows of a split. Raises `BadInput` for every mistake that can be
    found without training.
    """
    run.quieten()
    if job.ours.track:
        probes.kinds(job)
    checkpoint = run.checkpoint(job)
    start = model.start(job)
    say(f"model      {start.path}")
    train = load(job, job.script.dataset_train_split)
    evaluated = job.training.eval_strategy != "no"
    evaluation = load(job, job.script.dataset_test_split) if evaluated else None
    say(f"data       {job.script.dataset_name or 'mixture'}: {len(train)} rows")
    if job.ours.dry_run:
        run.write_config(job)
        _say_what_would_run(job)
        return None
    frozen = _probes(job, start, checkpoint) if job.ours.track else {}
    job.training.model_init_kwargs = model.loading(job)
    run.write_config(job)
    run.set_up_wandb(job)
    return Prepared(job, checkpoint, start, train, evaluation, frozen)


def finish(prepared: Prepared, trainer: Trainer) -> None:
    """Train, tracked; save the model as TRL's own scripts do."""
    job = prepared.job
    show_progress(trainer)
    if prepared.probes:
        tracking = TrackingConfig(
            prepared.probes,
            job.settings,
            digit_ids=probes.digit_ids(prepared.start.tokenizer),
            base=lambda: model.weights(job, prepared.start),
        )
        trainer.add_callback(HeadTracker(tracking))
    say(f"training   {job.name} in {job.folder}")
    trainer.train(resume_from_checkpoint=prepared.checkpoint)
    trainer.save_model(str(job.folder))
    trainer.end()


def _probes(job: Job, start: Start, checkpoint: str | None) -> dict[str, ProbeSet]:
    path = Ledger(job.folder / "heads").probes_path
    if checkpoint is not None and path.exists():
        frozen = load_probes(path)
    else:
        frozen = probes.build(job, start.tokenizer, lambda: model.weights(job, start))
    say(f"probes     {probes.describe(frozen)}")
    return frozen


def _say_what_would_run(job: Job) -> None:
    args = job.training
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    length = f"{args.max_steps} steps" if args.max_steps > 0 else f"{args.num_train_epochs} epochs"
    say(f"would run  {job.name}: {length}, learning rate {args.learning_rate}")
    say(f"           {batch} sequences a step")
    if job.name == "grpo":
        tokens = f"of at most {args.max_completion_length} tokens"
        say(f"           {args.num_generations} generations a prompt {tokens}")
        say(f"rewards    {', '.join(job.script.reward_funcs or [])}")
    if job.ours.track:
        count, kinds = job.ours.track_probe_count, ", ".join(probes.kinds(job))
        say(f"tracking   every {args.save_steps} steps, on {count} probes of each kind: {kinds}")
    say(f"settings   {job.folder / 'config.yaml'}; nothing was trained")
