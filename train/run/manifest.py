"""A checkpoint's manifest: written last, it says that all files are there and what made them."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import wandb
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import rotate_checkpoints

from tracking.atomic import write_whole
from tracking.errors import BadInput
from tracking.ranks import alone
from tracking.run_folder import RunFolder
from train.run.identity import Identity

MANIFEST = "sparks.json"
FORMAT = 1
DAMAGES = (  # what reading a file that is not what it should be may raise
    OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip


@dataclass(frozen=True)
class Manifest:
    """What lies beside a checkpoint's files, or the finished model's."""

    step: int
    identity: Identity
    files: dict[str, tuple[int, int]]  # bytes and CRC-32 of each, by path in the checkpoint
    pairs: str | None = None  # hash of the frozen pairs
    wandb: str | None = None  # the run's id; its rows have their `train/global_step`
    format: int = FORMAT

    @classmethod
    def read(cls, folder: Path, contents: bool = False) -> Manifest:
        """Of a complete checkpoint; `BadInput` says why it is none. With `contents` its files are
        read too, and compared with their checksums."""
        path = folder / MANIFEST
        try:
            facts = json.loads(path.read_bytes())
            manifest = cls(**{**facts, "identity": Identity(**facts["identity"])})
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
                written = (folder / name).stat().st_size
            except (OSError, ValueError):
                raise BadInput(f"{name} is missing") from None
            if written != size:
                raise BadInput(f"{name} has {written} bytes, not {size}")
            if contents and _crc(folder / name) != crc:
                raise BadInput(f"{name} is damaged; its checksum does not match")
        return manifest

    def write(self, folder: Path) -> None:
        """Declare a folder complete."""
        write_whole(folder / MANIFEST, json.dumps(asdict(self)).encode())


class CheckpointCallback(TrainerCallback):
    """Seals every checkpoint with its manifest, and deletes old ones by their steps.

    The trainer would delete the oldest by the clock, which may jump.
    """

    def __init__(self, identity: Identity, pairs: str | None, limit: int | None) -> None:
        self.identity, self.pairs, self.limit = identity, pairs, limit

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        with alone(state.is_world_process_zero) as main:  # others write files of their own
            if main:
                self._keep(Path(args.output_dir or "."), state)

    def _keep(self, run: Path, state: TrainerState) -> None:
        """Seal the newest checkpoint, and delete those past the limit."""
        folder = RunFolder(run).checkpoint(state.global_step)
        self.seal(folder, [path for path in folder.rglob("*") if path.is_file()], state.global_step)
        rotate_checkpoints(str(run), self.limit, state.best_model_checkpoint, use_mtime=False)

    def seal(self, folder: Path, files: Sequence[Path], step: int) -> None:
        """Write a folder's manifest, once these files of it are on the disk."""
        for path in files:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        Manifest(
            step,
            self.identity,
            {str(path.relative_to(folder)): (path.stat().st_size, _crc(path)) for path in files},
            self.pairs,
            None if wandb.run is None else wandb.run.id,
        ).write(folder)


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            crc = zlib.crc32(block, crc)
    return crc
