"""The reward of checkpoints that another trainer made, as rows of a log: `{"step", "reward"}`."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tracking.errors import BadInput

COLUMNS = ("step", "reward")


def read_csv(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV file with columns step and reward, others left out; where a reward is empty
    there is no row. `BadInput` names the line of what is no number."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8 text; a CSV file with columns step,reward") from None
    table = csv.DictReader(lines)
    try:
        names = [name.strip() for name in table.fieldnames or []]
        table.fieldnames = names
        if missing := [name for name in COLUMNS if name not in names]:
            has = ", ".join(names) or "nothing"
            raise BadInput(f"{path} has no column {missing[0]!r} (it has {has}); step,reward")
        rows = [_row(f"{path}, line {table.line_num}", row) for row in table]
    except csv.Error as error:
        raise BadInput(f"{path} cannot be read as CSV: {error}") from None
    return [row for row in rows if row]


def _row(where: str, row: dict[str, str | None]) -> dict[str, Any]:
    if not (row["reward"] or "").strip():
        return {}
    try:
        step, reward = float(row["step"] or ""), float(row["reward"] or "")
    except ValueError:
        raise BadInput(
            f"{where}: step {row['step']!r}, reward {row['reward']!r}; numbers"
        ) from None
    if not (step.is_integer() and math.isfinite(reward)):
        raise BadInput(f"{where}: step {row['step']!r}, reward {row['reward']!r}; finite numbers")
    return {"step": int(step), "reward": reward}


def logged(models: Sequence[Path], inside: Path) -> list[dict[str, Any]]:
    """The log in the last `trainer_state.json` of these models' checkpoints: in a model's folder,
    or above it and below `inside`; empty where there is none."""
    for model in reversed(models):
        above = [folder for folder in model.parents if folder.is_relative_to(inside)]
        for folder in (model, *above[: above.index(inside)]):
            if (folder / "trainer_state.json").is_file():
                return _log(folder / "trainer_state.json")
    return []


def _log(path: Path) -> list[dict[str, Any]]:
    try:
        history = json.loads(path.read_bytes())["log_history"]
        return [row for row in history if isinstance(row["step"], int | float)]
    except (OSError, ValueError, LookupError, TypeError):
        raise BadInput(f"{path} cannot be read; give the reward: --reward FILE.csv") from None
