"""Records as bytes and back: tensors, facts as JSON in the header, a checksum of both.

A tensor is named `<contrast>/<part>/<field>`, numbers stand in the facts under the same names. What
a file has more than this version knows is left out; what it lacks takes its field's default, and a
part of which it has nothing is None where the analysis allows that. So a record may grow.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, get_type_hints

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tracking.errors import BadInput
from tracking.ledger.older import laid_out
from tracking.ledger.record import Analysis, Record

FORMAT, OLDEST = 5, 3
NAME = "sparks-record-{}"


def to_bytes(record: Record) -> bytes:
    """A record as the bytes of its file."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, dict[str, float | None]]] = {}
    for contrast, analysis in record.analyses.items():
        numbers[contrast] = {}
        for part in fields(Analysis):
            result = getattr(analysis, part.name)
            if result is None:
                continue
            values = {item.name: getattr(result, item.name) for item in fields(result)}
            numbers[contrast][part.name] = {
                name: value for name, value in values.items() if not isinstance(value, Tensor)
            }
            tensors |= {
                f"{contrast}/{part.name}/{name}": value.clone().contiguous()
                for name, value in values.items()
                if isinstance(value, Tensor)
            }
    facts = {item.name: getattr(record, item.name) for item in fields(Record)}
    text = json.dumps({**facts, "analyses": numbers})
    header = {"format": NAME.format(FORMAT), "facts": text, "sha256": _digest(text, tensors)}
    return save(tensors, metadata=header)


def read_record(path: Path) -> Record:
    """Read a record; `BadInput` in one line where the file is missing, cut short, altered, foreign
    or of a later format."""
    try:
        with safe_open(path, "pt") as file:
            header: Mapping[str, str] = file.metadata() or {}
            _check_format(path, header.get("format", ""))
            # copies: the file is mapped, and gone if someone cuts it short
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        if _digest(header["facts"], tensors) != header["sha256"]:
            raise BadInput(f"{path}: damaged; its checksum does not match")
        facts = json.loads(header["facts"])
        if header["format"] != NAME.format(FORMAT):
            facts, tensors = laid_out(facts, tensors)
        analyses = {
            contrast: _analysis(contrast, numbers, tensors)
            for contrast, numbers in facts.pop("analyses").items()
        }
        known = {item.name for item in fields(Record)}
        return Record(analyses=analyses, **{k: v for k, v in facts.items() if k in known})
    except FileNotFoundError:
        raise BadInput(f"{path}: no such record") from None
    except (SafetensorError, OSError, LookupError, AttributeError, TypeError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{path}: not a whole record ({error})") from None


def _check_format(path: Path, name: str) -> None:
    number = re.fullmatch(NAME.format(r"(\d+)"), name)
    if number is None:
        raise BadInput(f"{path}: not a record of Sparks")
    if not OLDEST <= int(number[1]) <= FORMAT:
        raise BadInput(f"{path}: of format {number[1]}; this version reads {OLDEST} to {FORMAT}")


def _analysis(
    contrast: str, numbers: Mapping[str, Mapping[str, Any]], tensors: Mapping[str, Tensor]
) -> Analysis:
    types = get_type_hints(Analysis)
    parts = {}
    for part in fields(Analysis):
        prefix = f"{contrast}/{part.name}/"
        kept = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        if not kept and part.name not in numbers and part.default is not MISSING:
            continue
        parts[part.name] = _part(types[part.name], {**numbers.get(part.name, {}), **kept})
    return Analysis(**parts)


def _part(kind: Any, values: Mapping[str, Any]) -> Any:
    """A result of this type, or of `type | None`, from what a file has of it."""
    options = [option for option in getattr(kind, "__args__", (kind,)) if option is not type(None)]
    (result,) = options
    known: list[Field] = list(fields(result))
    return result(**{item.name: values[item.name] for item in known if item.name in values})


def _digest(facts: str, tensors: Mapping[str, Tensor]) -> str:
    """Of all that a record holds."""
    digest = hashlib.sha256(facts.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
