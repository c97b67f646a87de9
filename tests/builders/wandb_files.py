"""What a W&B run left on disk, read back with W&B's own tool."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pandas as pd

WANDB = Path(sys.executable).parent / "wandb"


def rows_of(run: Path, kind: str) -> list[dict]:
    """The records of one kind in a run's file, with dotted keys."""
    (file,) = run.glob("*.wandb")
    rows = map(json.loads, _lines(file, file.stat().st_size))
    return [row[kind] for row in rows if row["type"] == kind]


@cache
def _lines(file: Path, size: int) -> list[str]:
    """A record a line in JSON, of a file of this size: it is read again where it has grown."""
    assert file.stat().st_size == size
    read = subprocess.run(
        [WANDB, "leet", "inspect", "--json", file], capture_output=True, text=True, check=True
    )
    return read.stdout.splitlines()


def history(run: Path) -> list[dict]:
    return [row["item"] for row in rows_of(run, "history")]


def merged(run: Path, kind: str) -> dict:
    """Config or summary as it is after the last update."""
    merged_items: dict = {}
    for row in rows_of(run, kind):
        merged_items |= row.get("update", {})
        for gone in row.get("remove", []):
            merged_items = {key: value for key, value in merged_items.items() if key != gone["key"]}
    return merged_items


def increments(run: Path) -> list[pd.DataFrame]:
    """What was written of the table, in order."""
    files = run.glob("files/media/table/heads/table_*.table.json")
    by_row = sorted(files, key=lambda path: int(path.name.split("_")[1]))
    read = [json.loads(path.read_text()) for path in by_row]
    return [pd.DataFrame(one["data"], columns=one["columns"]) for one in read]


def keys(table: pd.DataFrame) -> list[tuple]:
    return [tuple(row) for row in table[["step", "contrast", "node"]].itertuples(index=False)]
