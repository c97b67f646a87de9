"""Going on with a run: which checkpoint is complete, and whether this job is the one that made it.

Every checkpoint has a manifest, written last: a checkpoint without one, or whose files are not of
the sizes and checksums it tells, is not complete. It also tells what the job was made of, so that a
job made of something else does not go on with it unnoticed.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tracking.atomic import write_whole
from tracking.errors import BadInput
from tracking.run_folder import RunFolder
from tracking.views import completions
from train.config import Job
from train.run.console import say
from train.run.folder import holds_run
from train.run.identity import Identity
from train.run.manifest import MANIFEST, Manifest


class TokenCountCallback(TrainerCallback):
    """Goes on with SFT's count of tokens where the log ends; the trainer would begin at 0 again."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        logged = [row["num_tokens"] for row in state.log_history if "num_tokens" in row]
        if logged and hasattr(self.trainer, "_total_train_tokens"):
            self.trainer._total_train_tokens = logged[-1]  # type: ignore[attr-defined]


class StepsCallback(TrainerCallback):
    """Lets a resumed run save, log and evaluate as often as it is told to now: a checkpoint's state
    holds how often it was before."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        state.compute_steps(args, state.max_steps)


class AcceptedChangesCallback(TrainerCallback):
    """Lets accepted `changes` (`Identity.changes`) of the optimizer's settings take effect: its
    saved state, and that of the schedule, hold the former."""

    def __init__(self, changes: Sequence[str]) -> None:
        self.anew = any(change.startswith("learning_rate was ") for change in changes)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        optimizer: Any = None,
        lr_scheduler: Any = None,
        **kwargs: Any,
    ) -> None:
        _, fresh = Trainer.get_optimizer_cls_and_kwargs(args, model)
        groups, schedule = optimizer.param_groups, getattr(lr_scheduler, "scheduler", lr_scheduler)
        if not (self.anew or isinstance(schedule, LambdaLR)):
            fresh.pop("lr")  # what a schedule by the loss has made of it
        for group in groups:
            changed = {key: fresh[key] for key in fresh if group.get(key, fresh[key]) != fresh[key]}
            group.update(changed)
            group["initial_lr"] = args.learning_rate
        groups[0]["weight_decay"] = args.weight_decay  # the others are biases and norms
        if isinstance(schedule, LambdaLR):
            schedule.base_lrs = [args.learning_rate] * len(groups)
            for group, factor in zip(groups, schedule.lr_lambdas, strict=True):
                group["lr"] = args.learning_rate * factor(schedule.last_epoch)
            schedule._last_lr = [group["lr"] for group in groups]


def complete(folder: Path, note: Callable[[str], None] = say) -> dict[int, Path]:
    """The complete checkpoints of a run by step, in order; `note` is given a line on each that is
    not complete."""
    by_step = {}
    for path in RunFolder(folder).checkpoints().values():
        try:
            by_step[_manifest(path).step] = path
        except BadInput as damage:
            note(f"skipped    {path}: {damage}")
    return by_step


def silent(line: str) -> None:
    """Says nothing of a checkpoint that is not complete."""


def _manifest(checkpoint: Path, contents: bool = False) -> Manifest:
    manifest = Manifest.read(checkpoint, contents)
    if checkpoint.name != f"checkpoint-{manifest.step}":
        raise BadInput(f"it is checkpoint-{manifest.step} by another name")
    return manifest


def wanted(job: Job) -> bool:
    """Whether the job is to go on with a run."""
    return str(job.training.resume_from_checkpoint or "false").lower() != "false"


def find(job: Job, thorough: bool = True) -> Path | None:
    """The checkpoint to resume from, or None where training begins at step 0.

    `latest` takes the newest complete one, and begins again where a run has none yet. Raises
    `BadInput` where the folder holds another run, none at all, or a finished one. Without
    `thorough` it is a first look: the contents of files are not read and nothing is said.
    """
    if not wanted(job):
        if holds_run(job.folder):
            raise BadInput(
                f"{job.folder} holds another run; choose a folder with --output_dir, or go on "
                "with it: --resume_from_checkpoint latest"
            )
        return None
    if job.training.resume_from_checkpoint.lower() in ("latest", "true"):
        return _newest(job, thorough)
    checkpoint = Path(job.training.resume_from_checkpoint)
    try:
        manifest = _manifest(checkpoint, contents=thorough)
    except BadInput as damage:
        raise BadInput(f"{checkpoint} is no complete checkpoint: {damage}") from None
    if checkpoint.resolve().parent != job.folder.resolve():
        raise BadInput(
            f"{checkpoint} belongs to another run; go on in its folder: "
            f"--output_dir {checkpoint.parent}"
        )
    _check_unfinished(job, manifest.step)
    return checkpoint


def _newest(job: Job, thorough: bool) -> Path | None:
    if not RunFolder(job.folder).config_path.exists():
        raise BadInput(f"{job.folder} has no run to resume")
    note = say if thorough else silent
    for step, path in sorted(complete(job.folder, note).items(), reverse=True):
        _check_unfinished(job, step)
        try:
            _manifest(path, contents=thorough)
        except BadInput as damage:
            note(f"skipped    {path}: {damage}")
            continue
        return path
    note(f"resuming   {job.folder} has no complete checkpoint: training begins again")
    return None


def _check_unfinished(job: Job, step: int) -> None:
    try:
        finished = Manifest.read(job.folder)
    except BadInput:
        return
    before = finished.identity.settings
    longer = any(before.get(key) != job.resolved[key] for key in ("max_steps", "num_train_epochs"))
    if finished.step <= step and not longer:
        raise BadInput(
            f"{job.folder} is at its end already, step {finished.step}; to train on, raise "
            "--max_steps with --accept_changes true"
        )


def check(job: Job, checkpoint: Path, now: Identity) -> list[str]:
    """How this job differs from the one that made the checkpoint.

    Raises `BadInput` with the differences, unless there are none or `--accept_changes` is given
    and they can be accepted.
    """
    before = Manifest.read(checkpoint)
    if before.identity.job != job.name:
        raise BadInput(f"{job.folder} is no {job.name} run but a {before.identity.job} run")
    if before.identity.settings.get("save_only_model"):
        raise BadInput(
            f"{checkpoint} has no optimizer (save_only_model): it cannot be resumed from"
        )
    ledger = RunFolder(job.folder).ledger
    if job.ours.track and ledger.steps() and not ledger.pairs_path.exists():
        raise BadInput(f"{ledger.pairs_path} is missing; without it records cannot be compared")
    changes = before.identity.changes(now)
    for change in changes:
        if change.startswith("track_") and ledger.steps():
            raise BadInput(
                f"{change}: this run's pairs and records were made with the former; go on with "
                f"that, and change it afterwards: sparks track {job.folder} --track_..."
            )
    if changes and not job.ours.accept_changes:
        raise BadInput(
            f"{checkpoint} was made by another job: {'; '.join(changes)}. Go on with the same, or "
            "accept that the run changes: --accept_changes true"
        )
    return changes


def take_up(folder: Path, checkpoint: Path | None, changes: Sequence[str]) -> None:
    """Move checkpoints, completions, shifts and evaluations later than the one resumed from to
    `superseded/`, drop weights of such steps that wait for a record, and note the resume."""
    for change in changes:
        say(f"changed    {change}")
    step = int(checkpoint.name[11:]) if checkpoint else 0
    run = RunFolder(folder)
    for by_step in (
        run.checkpoints(), completions.files(folder), run.shifts(), run.evaluations()
    ):  # fmt: skip
        for number, path in by_step.items():
            if number > step:
                _supersede(path, folder)
    for number, path in run.waiting.checkpoints().items():
        if number > step:
            shutil.rmtree(path, ignore_errors=True)  # another process may be at it
    run.ledger.supersede(after=step if checkpoint else -1)
    (folder / MANIFEST).unlink(missing_ok=True)
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    resumes = [*history(folder), {"step": step, "time": now, "changes": [*changes]}]
    write_whole(folder / "resumes.json", json.dumps(resumes, indent=1).encode())


def _supersede(path: Path, folder: Path) -> None:
    target = RunFolder(folder).superseded / path.relative_to(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    while target.exists():
        target = target.with_name(f"{target.name}.1")
    path.rename(target)


def history(folder: Path) -> list[dict[str, Any]]:
    """The resumes of a run: `step`, `time` and accepted `changes` of each."""
    try:
        return list(json.loads((folder / "resumes.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return []
