"""Where models that are made or fetched once are kept: whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path


def cached(name: str) -> Path:
    """The place of a folder in `$SPARKS_CACHE`, or `~/.cache/sparks`; it need not be there."""
    return Path(os.environ.get("SPARKS_CACHE") or "~/.cache/sparks").expanduser() / name


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, which `make(path)` has filled unless it was there already.

    It is there whole or not at all, also when this is killed or two processes do it at once.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    try:
        make(building)
        _publish(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def _publish(building: Path, folder: Path) -> None:
    """Give a finished folder its name, once its bytes are on disk."""
    for path in [*building.iterdir(), building]:
        _sync(path)
    try:
        os.rename(building, folder)
    except OSError:
        # Another process was faster; its folder holds the same.
        if not folder.is_dir():
            raise
    _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
