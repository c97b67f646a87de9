"""Where models that are made or fetched once are kept: whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from tracking.atomic import publish


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
        publish(building, folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster; its folder holds the same
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder
