"""The checkpoints in a folder, whichever trainer wrote them.

A checkpoint is a sub-folder called after its step (`checkpoint-100`, `global_step_100`, `step_100`,
`step-100`, `iter_0000100`) in which, or somewhere below which, a Hugging Face model lies:
`config.json` and its weights, or `adapter_config.json` and an adapter. What is not whole is
skipped, with a line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from tracking.errors import BadInput

STEP = re.compile(r"(?:checkpoint-|global_step_|step_|step-|iter_)(\d+)")
NAMES = "checkpoint-100, global_step_100, step_100, step-100 or iter_100"
DEEPEST = 3  # folders below a checkpoint's: global_step_100/actor/huggingface has 2
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")


def checkpoints(folder: Path, note: Callable[[str], None]) -> dict[int, Path]:
    """The folder of each whole checkpoint's model, by step in order; `note` is given a line on each
    that is skipped.

    Raises `BadInput` where there is none, or where two are of one step.
    """
    named = ((STEP.fullmatch(path.name), path) for path in sorted(folder.iterdir()))
    by_step: dict[int, Path] = {}
    whole: dict[int, Path] = {}
    for name, path in named:
        if not name or not path.is_dir():
            continue
        step = int(name[1])
        try:
            whole_model = _model_below(path)
        except BadInput as damage:
            note(f"skipped    {path}: {damage}")
            continue
        if step in whole:
            raise BadInput(f"{folder}: {by_step[step].name} and {path.name} are both step {step}")
        by_step[step], whole[step] = path, whole_model
    if not whole:
        raise BadInput(f"{folder} has no whole checkpoint; they are folders called {NAMES}")
    return dict(sorted(whole.items()))


def holds_model(folder: Path) -> bool:
    """Whether a model, or an adapter, lies in this very folder; whole or not."""
    return any((folder / name).is_file() for name in ("config.json", "adapter_config.json"))


def weights(folder: Path) -> list[Path]:
    """The files with the weights of the model, or adapter, in a folder; `BadInput` says what of
    them is missing or cut short."""
    names = ADAPTERS if (folder / "adapter_config.json").is_file() else WEIGHTS
    for name in names:
        index = folder / f"{name}.index.json"
        paths = [folder / name] if (folder / name).is_file() else []
        paths = paths or (_shards(index) if index.is_file() else [])
        for path in paths:
            _check_whole(path)
        if paths:
            return paths
    raise BadInput(f"it has no weights ({' or '.join(names)})")


def identity(folder: Path) -> list[tuple[int, int]]:
    """The inodes and times of its weights' files: other ones where they were written again."""
    try:
        statuses = [path.stat() for path in weights(folder)]
    except (BadInput, OSError):
        return []
    return [(status.st_ino, status.st_mtime_ns) for status in statuses]


def _model_below(checkpoint: Path) -> Path:
    """The folder of a checkpoint's model: the nearest below it that has one."""
    level = [checkpoint]
    for _ in range(DEEPEST + 1):
        if models := [folder for folder in level if holds_model(folder)]:
            actors = [
                folder for folder in models if "actor" in folder.parts
            ]  # verl's, not a critic
            if len(models) > 1 and len(actors) != 1:
                raise BadInput(f"it has several models: {', '.join(map(str, models))}")
            model = (actors if len(models) > 1 else models)[0]
            weights(model)
            return model
        level = [path for folder in level for path in sorted(folder.iterdir()) if path.is_dir()]
    raise BadInput("it has no model: no config.json and no adapter_config.json")


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, LookupError, TypeError, AttributeError):
        raise BadInput(f"{index.name} is damaged") from None
    for name in names:
        if not (index.parent / name).is_file():
            raise BadInput(f"{index.name} names {name}, which is not there")
    return [index.parent / name for name in names]


def _check_whole(path: Path) -> None:
    """Raise `BadInput` where a safetensors file is not of the size that its header says."""
    if path.suffix != ".safetensors":
        return
    with path.open("rb") as file:
        try:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length) if length < 1 << 30 else b"")
            ends = [int(entry["data_offsets"][1]) for name, entry in header.items()
                    if name != "__metadata__"]  # fmt: skip
        except (ValueError, LookupError, TypeError, AttributeError):
            raise BadInput(f"{path.name} is cut short or damaged") from None
    if path.stat().st_size != 8 + length + max(ends, default=0):
        raise BadInput(f"{path.name} is cut short or damaged")
