"""What a job is made of, so that another job does not go on with its run unnoticed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pyarrow as pa
from datasets import Dataset

from tracking.ledger.record import PROCEDURE
from tracking.settings import Settings
from train.config import ONCE, Job
from train.launch import strategy

SPARKS = "thinking-sparks"
PACKAGES = (SPARKS, "torch", "transformers", "trl", "peft", "accelerate", "deepspeed")
FREE = (  # settings that change nothing of what is trained
    "disable_tqdm", "eval_benchmarks", "hub_", "log_", "logging_", "num_completions_to_print",
    "output_dir", "project", "push_to_hub", "report_to", "run_name", "save_total_limit",
    "track_mode", "track_shift", "trackio_",
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
            _versions(job),
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


def _layout(args: Any) -> dict[str, Any]:
    return {"processes": args.world_size, "strategy": strategy(args), "device": args.device.type}


def _versions(job: Job) -> dict[str, str]:
    """Of the packages that a run's numbers depend on; of Sparks its first two numbers, and what
    an analysis is made with."""
    versions = {package: number for package in PACKAGES if (number := _version(package))}
    if SPARKS in versions:
        versions[SPARKS] = ".".join(versions[SPARKS].split(".")[:2])
    if job.ours.track:
        versions["analysis"] = _analysis()
    return versions


def _analysis() -> str:
    """Hash of the analysis's settings and their defaults, of those that change a finding."""
    items = [(item.name, item.default) for item in fields(Settings) if item.name not in PROCEDURE]
    return hashlib.sha256(repr(sorted(items)).encode()).hexdigest()[:8]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
