"""What is left of a run that has ended."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tracking.ledger.codec import to_bytes
from tracking.ledger.ledger import Ledger

STATES = (  # weights, optimizer, schedule and random states, whole or in shards
    "*.safetensors", "*.pt", "rng*", "pytorch_model_fsdp.bin", "global_step*/*.pt",
)  # fmt: skip
CLOCKS = ("time", "runtime", "per_second")  # what ends like this in a log is no finding


@dataclass(frozen=True)
class Outcome:
    """What is left of a run that has ended, by name: hashes of bytes, and the ledger's steps."""

    hashes: dict[str, str]
    steps: list[int]

    @classmethod
    def of(cls, run: Path) -> Outcome:
        """Read it from the run's folder."""
        ledger = Ledger(run / "heads")
        last = max(run.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
        files = [path for pattern in STATES for path in last.glob(pattern)]
        kept = {
            str(p.relative_to(run)): p.read_bytes() for p in (*run.glob("*.safetensors"), *files)
        }
        for path in last.glob("optimizer.bin"):  # FSDP's; a resumed one has lists for tuples
            kept[str(path.relative_to(run))] = repr(_plain(torch.load(path))).encode()
        for step in ledger.steps():
            untimed = dataclasses.replace(ledger.read(step), seconds=0.0)
            kept[f"record of step {step}"] = _checksum(to_bytes(untimed))
        kept["timeline"] = ledger.timeline_path.read_bytes()
        kept["log"] = json.dumps(_log(last)).encode()
        hashes = {name: hashlib.sha256(data).hexdigest() for name, data in kept.items()}
        return cls(hashes, ledger.steps())

    def differences(self, other: Outcome) -> list[str]:
        """What is not the same."""
        names = sorted({*self.hashes, *other.hashes})
        return [name for name in names if self.hashes.get(name) != other.hashes.get(name)]


def far_apart(one: Ledger, other: Ledger, most: float = 1e-5) -> list[str]:
    """What differs between records of the same steps: names of their tensors that differ in a value
    by more than `most` of the largest, or in anything that is no float."""
    names = []
    for step in sorted({*one.steps()} & {*other.steps()}):
        ours, theirs = (load_file(ledger.path(step)) for ledger in (one, other))
        for name in sorted({*ours, *theirs}):
            if not _near(ours.get(name), theirs.get(name), most):
                names.append(f"step {step}: {name}")
    return names


def _near(one: torch.Tensor | None, other: torch.Tensor | None, most: float) -> bool:
    if one is None or other is None or one.shape != other.shape:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    largest = float(other.nan_to_num().abs().max()) if other.numel() else 0.0
    return torch.allclose(one, other, rtol=0, atol=most * max(largest, 1e-12), equal_nan=True)


def _plain(state: Any) -> Any:
    """A state as lists, with hashes for its tensors."""
    if isinstance(state, torch.Tensor):
        return hashlib.sha256(state.numpy().tobytes()).hexdigest()
    if isinstance(state, dict):
        return [[key, _plain(state[key])] for key in sorted(state)]
    return [_plain(each) for each in state] if isinstance(state, list | tuple) else state


def _checksum(record: bytes) -> bytes:
    """Of all that a record holds; the order in a safetensors header is not always the same."""
    size = int.from_bytes(record[:8], "little")
    return json.loads(record[8 : 8 + size])["__metadata__"]["sha256"].encode()


def _log(checkpoint: Path) -> list[dict[str, Any]]:
    """What was logged up to a checkpoint, without what a clock says."""
    history = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
    return [{key: row[key] for key in row if not key.endswith(CLOCKS)} for row in history]
