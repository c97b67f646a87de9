"""Going on with a run: which checkpoint is complete, and whether this job is the one that made it.

Every checkpoint has a manifest, written last: a checkpoint without one, or whose files are not of
the sizes and checksums it tells, is not complete. It also tells what the job was made of, so that a
job made of something else does not go on with it unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import wandb
from datasets import Dataset
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import rotate_checkpoints

from tracking.atomic import write_whole
from tracking.errors import BadInput
from tracking.ledger import Ledger
from tracking.settings import PROCEDURE
from train.config import ONCE, Job
from train.run import holds_run, say

MANIFEST = "sparks.json"
FORMAT = 1
DAMAGES = (  # what reading a file that is not what it should be may raise
    OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip
PACKAGES = ("thinking-sparks", "torch", "transformers", "trl", "peft", "accelerate", "deepspeed")
FREE = (  # settings that change nothing of what is trained
    "disable_tqdm", "hub_", "log_", "logging_", "num_completions_to_print", "output_dir", "project",
    "push_to_hub", "report_to", "run_name", "save_total_limit", "trackio_",
    *(f"track_{name}" for name in PROCEDURE),
)  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """What a job is made of: a run goes on unchanged with a job whose identity is the same."""

    job: str
    layout: dict[str, Any]
    settings: dict[str, Any]
    data: str  # hash of the training rows
    versions: dict[str, str]

    @classmethod
    def of(cls, job: Job, train: Dataset) -> Identity:
        """This job's, on this machine, in as many processes as it was launched in."""
        kept = {k: v for k, v in job.resolved.items() if k not in ONCE}
        return cls(
            job.name,
            _layout(job.training),
            json.loads(json.dumps(kept, default=str)),
            data_hash(train),
            {package: found for package in PACKAGES if (found := _version(package))},
        )

    @property
    def readable(self) -> bool:
        """Whether it is made of what it should be, as one read from a file may not be."""
        parts = (self.layout, self.settings, self.versions)
        return isinstance(self.data, str) and all(isinstance(part, dict) for part in parts)

    def changes(self, now: Identity) -> list[str]:
        """What differs between this identity and that of `now`, each in a few words."""
        pairs = [("training data", self.data, now.data)]
        for before, after in (
            (self.layout, now.layout),
            (self.settings, now.settings),
            (self.versions, now.versions),
        ):
            keys = [key for key in sorted({*before, *after}) if not key.startswith(FREE)]
            pairs += [(key, before.get(key), after.get(key)) for key in keys]
        return [f"{name} was {old!r}, is {new!r}" for name, old, new in pairs if old != new]


@dataclass(frozen=True)
class Manifest:
    """What lies beside a checkpoint's files, or the finished model's."""

    step: int
    identity: Identity
    files: dict[str, tuple[int, int]]  # bytes and CRC-32 of each, by path in the checkpoint
    probes: str | None = None  # hash of the frozen probes
    wandb: str | None = None  # the run's id; its rows have their `train/global_step`
    format: int = FORMAT

    @classmethod
    def read(cls, folder: Path, contents: bool = False) -> Manifest:
        """Of a complete checkpoint; `BadInput` says why it is none. With `contents` its files are
        read too, and compared with their checksums."""
        path = folder / MANIFEST
        try:
            told = json.loads(path.read_bytes())
            manifest = cls(**{**told, "identity": Identity(**told["identity"])})
            files = {name: (int(size), int(crc)) for name, (size, crc) in manifest.files.items()}
            if not (isinstance(manifest.step, int) and manifest.identity.readable):
                raise ValueError("values of other kinds")
        except FileNotFoundError:
            raise BadInput(f"it has no {MANIFEST}: its writing was not finished") from None
        except DAMAGES:
            raise BadInput(f"{MANIFEST} is damaged") from None
        if manifest.format != FORMAT:
            raise BadInput(f"{MANIFEST} has format {manifest.format}, not {FORMAT}")
        for name, (size, crc) in files.items():
            try:
                found = (folder / name).stat().st_size
            except (OSError, ValueError):
                raise BadInput(f"{name} is missing") from None
            if found != size:
                raise BadInput(f"{name} has {found} bytes, not {size}")
            if contents and _crc(folder / name) != crc:
                raise BadInput(f"{name} is damaged; its checksum does not match")
        return manifest


class Checkpoints(TrainerCallback):
    """Seals every checkpoint with its manifest, and deletes old ones by their steps.

    The trainer would delete the oldest by the clock, which may jump.
    """

    def __init__(self, identity: Identity, probes: str | None, limit: int | None) -> None:
        self.identity, self.probes, self.limit = identity, probes, limit

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()  # other ranks write files of their own
        if not state.is_world_process_zero:
            return
        run = Path(args.output_dir or ".")
        folder = run / f"checkpoint-{state.global_step}"
        self.seal(folder, [path for path in folder.rglob("*") if path.is_file()], state.global_step)
        rotate_checkpoints(str(run), self.limit, state.best_model_checkpoint, use_mtime=False)

    def seal(self, folder: Path, files: Sequence[Path], step: int) -> None:
        """Write a folder's manifest, once these files of it are on the disk."""
        for path in files:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        manifest = Manifest(
            step,
            self.identity,
            {str(path.relative_to(folder)): (path.stat().st_size, _crc(path)) for path in files},
            self.probes,
            None if wandb.run is None else wandb.run.id,
        )
        write_whole(folder / MANIFEST, json.dumps(asdict(manifest)).encode())


class Tokens(TrainerCallback):
    """Goes on with SFT's count of tokens where the log ends; the trainer would begin at 0 again."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        logged = [row["num_tokens"] for row in state.log_history if "num_tokens" in row]
        if logged and hasattr(self.trainer, "_total_train_tokens"):
            self.trainer._total_train_tokens = logged[-1]  # type: ignore[attr-defined]


class Accepted(TrainerCallback):
    """Lets accepted changes of the optimizer's settings take effect: its saved state, and that of
    the schedule, hold the former."""

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
        groups = optimizer.param_groups
        for group in groups:
            changed = {key: fresh[key] for key in fresh if group.get(key, fresh[key]) != fresh[key]}
            group.update(changed)
            group["initial_lr"] = args.learning_rate
        groups[0]["weight_decay"] = args.weight_decay  # the others are biases and norms
        schedule = getattr(lr_scheduler, "scheduler", lr_scheduler)
        if isinstance(schedule, LambdaLR):
            schedule.base_lrs = [args.learning_rate] * len(groups)
            for group, factor in zip(groups, schedule.lr_lambdas, strict=True):
                group["lr"] = args.learning_rate * factor(schedule.last_epoch)
            schedule._last_lr = [group["lr"] for group in groups]


def complete(folder: Path) -> dict[int, Path]:
    """The complete checkpoints of a run by step, in order; says which are not complete."""
    found = {}
    for path in folder.glob("checkpoint-*"):
        if path.name[11:].isdigit():
            try:
                found[_manifest(path).step] = path
            except BadInput as damage:
                say(f"skipped    {path}: {damage}")
    return dict(sorted(found.items()))


def _manifest(checkpoint: Path, contents: bool = False) -> Manifest:
    manifest = Manifest.read(checkpoint, contents)
    if checkpoint.name != f"checkpoint-{manifest.step}":
        raise BadInput(f"it is checkpoint-{manifest.step} by another name")
    return manifest


def wanted(job: Job) -> bool:
    """Whether the job is to go on with a run."""
    return str(job.training.resume_from_checkpoint or "false").lower() != "false"


def find(job: Job) -> Path | None:
    """The checkpoint to resume from, or None where training begins at step 0.

    `latest` takes the newest complete one, and begins again where a run has none yet. Raises
    `BadInput` where the folder holds another run, none at all, or a finished one.
    """
    if not wanted(job):
        if holds_run(job.folder):
            raise BadInput(
                f"{job.folder} holds another run; choose a folder with --output_dir, or go on "
                "with it: --resume_from_checkpoint latest"
            )
        return None
    if job.training.resume_from_checkpoint.lower() in ("latest", "true"):
        return _newest(job)
    found = Path(job.training.resume_from_checkpoint)
    try:
        manifest = _manifest(found, contents=True)
    except BadInput as damage:
        raise BadInput(f"{found} is no complete checkpoint: {damage}") from None
    if found.resolve().parent != job.folder.resolve():
        raise BadInput(
            f"{found} belongs to another run; go on in its folder: --output_dir {found.parent}"
        )
    _check_unfinished(job, manifest.step)
    return found


def _newest(job: Job) -> Path | None:
    if not (job.folder / "config.yaml").exists():
        raise BadInput(f"{job.folder} has no run to resume")
    for step, path in sorted(complete(job.folder).items(), reverse=True):
        _check_unfinished(job, step)
        try:
            _manifest(path, contents=True)
        except BadInput as damage:
            say(f"skipped    {path}: {damage}")
            continue
        return path
    say(f"resuming   {job.folder} has no complete checkpoint: training begins again")
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
    ledger = Ledger(job.folder / "heads")
    if job.ours.track and ledger.steps() and not ledger.probes_path.exists():
        raise BadInput(f"{ledger.probes_path} is missing; without it records cannot be compared")
    changes = before.identity.changes(now)
    for change in changes:
        if change.startswith("track_") and ledger.steps():
            raise BadInput(
                f"{change}: this run's probes and records were made with the former; go on with "
                f"that, and change it afterwards: sparks track {job.folder} --track_..."
            )
    if changes and not job.ours.accept_changes:
        raise BadInput(
            f"{checkpoint} was made by another job: {'; '.join(changes)}. Go on with the same, or "
            "accept that the run changes: --accept_changes true"
        )
    return changes


def take_up(folder: Path, checkpoint: Path | None, changes: Sequence[str]) -> None:
    """Move checkpoints later than the one resumed from to `superseded/`, and note the resume."""
    for change in changes:
        say(f"changed    {change}")
    step = int(checkpoint.name[11:]) if checkpoint else 0
    for path in folder.glob("checkpoint-*"):
        if path.name[11:].isdigit() and int(path.name[11:]) > step:
            target = folder / "superseded" / path.name
            target.parent.mkdir(exist_ok=True)
            while target.exists():
                target = target.with_name(f"{target.name}.1")
            path.rename(target)
    Ledger(folder / "heads").supersede(after=step if checkpoint else -1)
    (folder / MANIFEST).unlink(missing_ok=True)
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    resumes = [*history(folder), {"step": step, "time": now, "changes": [*changes]}]
    write_whole(folder / "resumes.json", json.dumps(resumes, indent=1).encode())


def history(folder: Path) -> list[dict[str, Any]]:
    """The resumes of a run: `step`, `time` and accepted `changes` of each."""
    try:
        return list(json.loads((folder / "resumes.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return []


def data_hash(rows: Dataset) -> str:
    """Of the contents of all rows, whatever file or cache they came from."""
    table = rows.flatten_indices().data.table.combine_chunks().replace_schema_metadata(None)
    digest = hashlib.sha256()
    sink = pa.PythonFile(_Digest(digest), mode="w")
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return digest.hexdigest()[:16]


class _Digest:
    """A file to write to that only keeps the digest."""

    def __init__(self, digest: Any) -> None:
        self.digest, self.closed = digest, False

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            crc = zlib.crc32(block, crc)
    return crc


def _layout(args: Any) -> dict[str, Any]:
    strategy = str(args.distributed_state.distributed_type.value)
    plugin = getattr(args, "deepspeed_plugin", None)
    if plugin is not None:
        strategy = f"DEEPSPEED ZeRO-{plugin.zero_stage}"
    return {"processes": args.world_size, "strategy": strategy, "device": args.device.type}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
