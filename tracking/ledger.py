"""The ledger: one record per analysed checkpoint in `<run>/heads/`, and what follows from them.

A record is a safetensors file: tensors, and its facts as JSON in the header, with a checksum of
both. It is written whole or not at all. A checkpoint that should have one and has none is marked,
with the reason. Everything else under `heads/` (`timeline.parquet`) is a pure function of the
records.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tracking.atomic import write_whole
from tracking.errors import BadInput
from tracking.graph import Graph
from tracking.stability import Thresholds

FORMAT = "sparks-record-3"


@dataclass(frozen=True)
class Analysis:
    """One checkpoint on the probes of one kind."""

    edges: Tensor  # float32 [source, target], signed mean score
    strength: Tensor  # float32 [source, target], mean |score|
    circuit: Tensor  # BoolTensor [source, target]
    in_circuit: Tensor  # BoolTensor [resample, head]
    edge_membership: Tensor  # float32 [source, target], share of resamples
    ensemble: Tensor  # float32 [size, head], membership with 0.5, 1 and 2 times as many edges
    effect: Tensor  # float32 [probe, head], attributed change of the right token's probability
    null: Tensor  # float32 [split], turnover between halves of the probes
    curve: Tensor  # float32 [size, 4]: share of all edges, faithfulness, its interval
    roles: Tensor  # float32 [role, head], in the order of `tracking.roles.SCORES`
    weights: Tensor  # float32 [5, head], change of q, k, v, o and all since the base; NaN: unknown
    gap: float  # completeness gap
    clean: float  # mean probability of the right token under the clean prompts
    corrupted: float  # the same under the corrupted prompts
    difference_low: float  # lower end of the 95 % interval of clean - corrupted
    faithfulness: float  # of the circuit
    faithfulness_low: float  # 95 % interval over probes
    faithfulness_high: float
    complement: float  # faithfulness of all edges outside the circuit
    accuracy: float  # share of probes whose top token is right with the circuit alone
    clean_accuracy: float  # the same with the whole model
    cpr: float  # area under the curve
    cmd: float  # area between the curve and 1
    jaccard: float  # of the heads in the circuits of two disjoint halves of the probes
    jaccard_low: float  # 95 % of splits
    jaccard_high: float
    rank_correlation: float  # Spearman's, of edge scores from two halves
    probes_needed: float | None  # estimate for a Jaccard of 0.8

    def verdict(self, thresholds: Thresholds) -> str:
        """In one word: `absent` where clean and corrupted hardly differ, so that there is nothing
        to carry; `weak` where the circuit is not faithful, not the same from half the probes, or
        made from too few of them to tell; `unconverged` where the integral is not complete; else
        `sound`."""
        if self.difference_low < thresholds.effect:
            return "absent"
        faithful = self.faithfulness >= thresholds.faithfulness
        agreed = self.jaccard >= thresholds.jaccard and len(self.effect) >= thresholds.probes
        if not (faithful and agreed):
            return "weak"
        return "unconverged" if self.gap > thresholds.gap else "sound"


@dataclass(frozen=True)
class Record:
    """One analysed checkpoint."""

    step: int
    layers: int
    heads: int  # query heads per layer
    probes: str  # hash of the frozen probes
    analyses: dict[str, Analysis]  # by kind of probe
    reward: float | None = None  # mean over the training steps since the checkpoint before
    reward_name: str = "reward"
    reward_parts: dict[str, float] = field(default_factory=dict)  # by reward function
    seconds: float = 0.0  # spent on tracking this checkpoint
    settings: dict[str, object] = field(default_factory=dict)  # of the tracking
    versions: dict[str, str] = field(default_factory=dict)
    precision: str = "float32"

    @property
    def graph(self) -> Graph:
        """The wiring that the tensors are laid out by."""
        return Graph(self.layers, self.heads)


@dataclass(frozen=True)
class Mark:
    """Why a checkpoint has no record.

    `why` is `failed` (its analysis raised an error), `preempted` (the job was asked to end: the
    resumed one makes the record), `budget` (tracking had taken its share of the time) or `deleted`
    (its checkpoint was gone before it was analysed).
    """

    step: int
    why: str
    message: str = ""


@dataclass(frozen=True)
class Ledger:
    """The records of one run, under `folder` (`<run>/heads`)."""

    folder: Path

    @property
    def probes_path(self) -> Path:
        """Where the frozen probes lie."""
        return self.folder / "probes.safetensors"

    @property
    def timeline_path(self) -> Path:
        """One row per step, kind of probe and head; see `tracking.lifecycle`."""
        return self.folder / "timeline.parquet"

    def path(self, step: int) -> Path:
        """Where the record of a step lies."""
        return self.folder / f"step-{step:08d}.safetensors"

    def steps(self) -> list[int]:
        """The steps that have a record, in order."""
        names = (
            re.fullmatch(r"step-(\d+)", path.stem) for path in self.folder.glob("*.safetensors")
        )
        return sorted(int(name[1]) for name in names if name)

    def write(self, record: Record) -> Path:
        """Add a record; it is there whole or not at all."""
        path = self.path(record.step)
        write_whole(path, to_bytes(record))
        self.mark_path(record.step).unlink(missing_ok=True)
        return path

    def read(self, step: int) -> Record:
        """The record of a step; `BadInput` where it is missing or not a whole record."""
        return read_record(self.path(step))

    def records(self) -> list[Record]:
        """All records, in the order of their steps. `BadInput` where their probes differ."""
        records = [self.read(step) for step in self.steps()]
        hashes = {record.probes for record in records}
        if len(hashes) > 1:
            raise BadInput(
                f"{self.folder}: the records were made with different probes "
                f"({', '.join(sorted(hashes))}); they cannot be compared"
            )
        shapes = {(record.layers, record.heads, *record.analyses) for record in records}
        if len(shapes) > 1:
            raise BadInput(f"{self.folder}: the records are of different models or kinds of probes")
        return records

    def supersede(self, after: int) -> list[Path]:
        """Move records of steps later than `after` to `superseded/`; where they lie now. Marks of
        such steps go, and what a killed write left."""
        for step in self.marks():
            if step > after:
                self.mark_path(step).unlink()
        for rest in self.folder.glob(".*.tmp"):
            rest.unlink()
        return [moved for step in self.steps() if step > after for moved in self.set_aside(step)]

    def set_aside(self, step: int) -> list[Path]:
        """Move a step's record, if there is one, to `superseded/`; where it lies now."""
        if not self.path(step).exists():
            return []
        target = self.folder / "superseded" / self.path(step).name
        target.parent.mkdir(exist_ok=True)
        number = 1
        while target.exists():
            target = target.with_name(f"{self.path(step).stem}.{number}.safetensors")
            number += 1
        return [self.path(step).rename(target)]

    def set_aside_damaged(self) -> list[str]:
        """Move records that cannot be read to `superseded/`; what was wrong with each."""
        told = []
        for step in self.steps():
            try:
                self.read(step)
            except BadInput as error:
                self.set_aside(step)
                told.append(f"{error}; set aside")
        return told

    def mark(self, mark: Mark) -> Path:
        """Say beside the records why a step has none."""
        path = self.mark_path(mark.step)
        write_whole(path, json.dumps(asdict(mark)).encode())
        return path

    def mark_failed(self, step: int, error: Exception) -> Path:
        """Say that a step's analysis failed."""
        return self.mark(Mark(step, "failed", f"{type(error).__name__}: {error}"))

    def marks(self) -> dict[int, Mark]:
        """Why steps have no record, by step, in order; `BadInput` where a mark cannot be read."""
        found = {}
        for path in sorted(self.folder.glob("missing-*.json")):
            try:
                mark = Mark(**json.loads(path.read_bytes()))
                if self.mark_path(int(mark.step)) != path:
                    raise ValueError("another step's")
            except FileNotFoundError:  # its record has just been written
                continue
            except (OSError, TypeError, ValueError, OverflowError, RecursionError):
                raise BadInput(f"{path}: not a whole mark; remove it") from None
            if not self.path(mark.step).exists():  # else a write was killed before its last act
                found[mark.step] = mark
        return found

    def before(self, step: int, checkpoints: Iterable[int] = ()) -> int:
        """The last step before this one that was saved: with a record, a mark or among
        `checkpoints`; 0 where there is none."""
        saved = {*self.steps(), *self.marks(), *checkpoints}
        return max((other for other in saved if other < step), default=0)

    def mark_path(self, step: int) -> Path:
        """Where the mark of a step lies that has no record."""
        return self.folder / f"missing-{step:08d}.json"

    def write_timeline(self, timeline: pd.DataFrame) -> Path:
        """Write the derived table of heads over time."""
        buffer = io.BytesIO()
        timeline.to_parquet(buffer, index=False)
        write_whole(self.timeline_path, buffer.getvalue())
        return self.timeline_path


def to_bytes(record: Record) -> bytes:
    """A record as the bytes of its file."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, float]] = {}
    for kind, analysis in record.analyses.items():
        numbers[kind] = {}
        for item in fields(Analysis):
            value = getattr(analysis, item.name)
            if isinstance(value, Tensor):
                tensors[f"{kind}/{item.name}"] = value.contiguous()
            else:
                numbers[kind][item.name] = value
    facts = {item.name: getattr(record, item.name) for item in fields(Record)}
    facts["analyses"] = numbers
    told = json.dumps(facts)
    digest = _digest(told, tensors)
    return save(tensors, metadata={"format": FORMAT, "facts": told, "sha256": digest})


def _digest(facts: str, tensors: Mapping[str, Tensor]) -> str:
    """Of all that a record holds."""
    digest = hashlib.sha256(facts.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def read_record(path: Path) -> Record:
    """Read a record; `BadInput` in one line where the file is missing, cut short, altered or
    foreign."""
    try:
        with safe_open(path, "pt") as file:
            header: Mapping[str, str] = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise BadInput(f"{path}: not a record of this version ({FORMAT})")
            # copies: the file is mapped, and gone if someone cuts it short
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        if _digest(header["facts"], tensors) != header["sha256"]:
            raise BadInput(f"{path}: damaged; its checksum does not match")
        facts = json.loads(header["facts"])
        analyses = {
            kind: Analysis(
                **numbers,
                **{
                    item.name: tensors[f"{kind}/{item.name}"]
                    for item in fields(Analysis)
                    if item.name not in numbers
                },
            )
            for kind, numbers in facts.pop("analyses").items()
        }
        return Record(analyses=analyses, **facts)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such record") from None
    except (SafetensorError, OSError, LookupError, AttributeError, TypeError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{path}: not a whole record ({error})") from None
