"""Records as bytes and back: tensors, facts as JSON in the header, a checksum of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tracking.errors import BadInput
from tracking.ledger.record import Analysis, Record

FORMAT = "sparks-record-3"


def to_bytes(record: Record) -> bytes:
    """A record as the bytes of its file."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, float]] = {}
    for contrast, analysis in record.analyses.items():
        numbers[contrast] = {}
        for item in fields(Analysis):
            value = getattr(analysis, item.name)
            if isinstance(value, Tensor):
                tensors[f"{contrast}/{item.name}"] = value.contiguous()
            else:
                numbers[contrast][item.name] = value
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
            contrast: Analysis(
                **numbers,
                **{
                    item.name: tensors[f"{contrast}/{item.name}"]
                    for item in fields(Analysis)
                    if item.name not in numbers
                },
            )
            for contrast, numbers in facts.pop("analyses").items()
        }
        return Record(analyses=analyses, **facts)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such record") from None
    except (SafetensorError, OSError, LookupError, AttributeError, TypeError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{path}: not a whole record ({error})") from None
