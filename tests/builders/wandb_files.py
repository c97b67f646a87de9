"""What a W&B run left on disk, read back with W&B's own tool."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

WANDB = Path(sys.executable).parent / "wandb"


def told(run: Path, contrast: str) -> list[dict]:
    """The records of one contrast in a run's file, with dotted keys."""
    (file,) = run.glob("*.wandb")
    read = subprocess.run(
        [WANDB, "leet", "inspect", "--json", file], capture_output=True, text=True, check=True
    )
    rows = [json.loads(line) for line in read.stdout.splitlines()]
    return [row[contrast] for row in rows if row["type"] == contrast]


def history(run: Path) -> list[dict]:
    return [row["item"] for row in told(run, "history")]


def merged(run: Path, contrast: str) -> dict:
    """Config or summary as it is after the last update."""
    found: dict = {}
    for row in told(run, contrast):
        found |= row.get("update", {})
        for gone in row.get("remove", []):
            found = {key: value for key, value in found.items() if key != gone["key"]}
    return found


def increments(run: Path) -> list[pd.DataFrame]:
    """What was written of the table, in order."""
    files = run.glob("files/media/table/heads/table_*.table.json")
    by_row = sorted(files, key=lambda path: int(path.name.split("_")[1]))
    read = [json.loads(path.read_text()) for path in by_row]
    return [pd.DataFrame(one["data"], columns=one["columns"]) for one in read]


def keys(table: pd.DataFrame) -> list[tuple]:
    return [tuple(row) for row in table[["step", "contrast", "node"]].itertuples(index=False)]
