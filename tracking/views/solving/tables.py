"""What `sparks eval` and `sparks ablate` have left in a run, read by its columns.

evals/step-00000100/summary.parquet   accuracy by benchmark, of a checkpoint
evals/final/ablation.parquet          a row a set of nodes, mode and benchmark
evals/final/halves.parquet            the same in halves of benchmarks, as the next ones where asked
evals/final/labels.parquet            a row a set, mode, benchmark and failure label
evals/final/trade_off.parquet         a row a condition and pair of benchmarks
evals/final/heads.parquet             a row a head that is off alone, mode and benchmark
evals/final/attention.parquet         a row a problem that turned, where its set's heads attend
evals/final/predictions.parquet       a row a mode and benchmark: what shares tell of these
evals/final/responses/part-*.parquet  a row a response
evals/final/grafts/responses/         the same, of the model that nodes are grafted into
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pyarrow import ArrowException

from tracking.errors import BadInput
from tracking.run_folder import RunFolder

LEVEL = 0.05
ACCURACY = ("benchmark", "avg", "avg_low", "avg_high")
ABLATION = (
    *("heads", "nodes", "mode", "benchmark", "problems", "on", "off"),
    *("change", "change_low", "change_high", "p", "smallest"),
)
CONTROLS = ("layer", "norm")  # by what control sets are matched
AGAINST = ("less", "less_low", "less_high", "beyond")  # of a matching, behind its name
SPREADS = ("x", "x_low", "x_high", "y", "y_low", "y_high")
CHANGE = ("mode", "benchmark", "on", "off", "change", "change_low", "change_high")
ATTENDED = ("before_tokens", "before_weights", "after_tokens", "after_weights")
BESIDE = {  # what stands beside an ablation, by file
    "labels": ("heads", "label", *CHANGE),
    "trade_off": ("easy", "hard", "model", "what", *SPREADS),
    "heads": ("nodes", *CHANGE, "p", "smallest"),
    "attention": ("benchmark", "problem", "sample", "condition", "heads", "first", *ATTENDED),
    "predictions": ("benchmark", "mode", "heads", "value", "low", "high"),
}
RESPONSES = ("benchmark", "problem", "sample", "condition", "prompt", "response", "right")


def accuracies(run: Path) -> pd.DataFrame:
    """The columns `step` and `ACCURACY`, by step, of the checkpoints at which benchmarks were
    solved; empty where none were. `BadInput` where a file cannot be read."""
    offset = RunFolder(run).ledger.offset
    tables = [
        _read(path, ACCURACY).assign(step=offset + step)
        for step, folder in RunFolder(run).evaluations().items()
        if (path := folder / "summary.parquet").exists()
    ]
    empty = pd.DataFrame(columns=["step", *ACCURACY])
    return pd.concat(tables, ignore_index=True)[list(empty)] if tables else empty


def in_words(accuracy: pd.DataFrame) -> list[str]:
    """A line a benchmark of `accuracies`: its first and its last accuracy, with intervals."""
    lines = []
    for benchmark, rows in accuracy.groupby("benchmark", sort=False):
        ends = rows.iloc[[0, -1] if len(rows) > 1 else [0]].to_dict("records")
        lines.append(f"accuracy in {benchmark}: {', '.join(map(_at_step, ends))}")
    return lines


def _at_step(row: dict[Hashable, Any]) -> str:
    """With its interval, where it has one: one problem has none."""
    known = pd.notna(row["avg_low"])
    interval = f" ({row['avg_low']:.3f}-{row['avg_high']:.3f})" if known else ""
    return f"{row['avg']:.3f}{interval} at step {row['step']}"


def ablations(run: Path) -> dict[str, pd.DataFrame]:
    """By the name of the folder in `evals/`: the columns `ABLATION`, `significant` (after Holm),
    and of every matching of the study `norm_less`, `norm_less_low`, `norm_less_high` and
    `norm_beyond`. `BadInput` where a file cannot be read."""
    paths = sorted(RunFolder(run).evals.glob("*/ablation.parquet"))
    return {path.parent.name: ablation(path) for path in paths}


def ablation(path: Path) -> pd.DataFrame:
    """One file of `ablations`."""
    raw = _read(path)
    there = [name for name in CONTROLS if f"{name}_less" in raw]
    beside = [f"{name}_{what}" for name in there for what in AGAINST]
    table = _columns(path, raw, (*ABLATION, *beside))
    # where some rows have no controls, others' verdicts stand among missing ones
    verdicts = {name: raw[name].eq(True) for name in beside if name.endswith("_beyond")}
    return table.assign(significant=table["p"] <= LEVEL, **verdicts)


def beside(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables that stand beside an ablation in its folder, by name: `halves`, which has its
    columns and what tells problems apart as `easier`, and those of `BESIDE`; of `labels` also
    `norm_less` and the like, of `heads` also `share`, where it is known. What is not there, or
    empty, is left out. `BadInput` where a file cannot be read."""
    tables = {}
    if (path := folder / "halves.parquet").exists():
        tables["halves"] = ablation(path).join(_read(path, ["easier"]))
    for name, columns in BESIDE.items():
        if not (path := folder / f"{name}.parquet").exists():
            continue
        raw = _read(path)
        if not len(raw):
            continue
        more = [f"{matching}_{what}" for matching in CONTROLS for what in AGAINST[:3]]
        there = [column for column in (*more, "share") if column in raw]
        tables[name] = _columns(path, raw, (*columns, *there))
    return tables


def responses(folder: Path, conditions: Collection[str]) -> pd.DataFrame:
    """The graded responses under some conditions that lie in a folder of `evals/`, with the columns
    `RESPONSES`. `BadInput` where a file cannot be read."""
    paths = sorted((folder / "responses").glob("part-*.parquet"))
    parts = (_read(path, RESPONSES) for path in paths)
    kept = [part[part["condition"].isin(conditions) & part["right"].notna()] for part in parts]
    return pd.concat(kept, ignore_index=True) if kept else pd.DataFrame(columns=list(RESPONSES))


def _read(path: Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """All columns where none are named."""
    try:
        raw = pd.read_parquet(path)
    except (OSError, ArrowException) as error:
        why = str(error).splitlines()[0]
        raise BadInput(f"{path}: not a whole parquet file ({why}); remove it") from None
    return _columns(path, raw, columns) if columns else raw


def _columns(path: Path, raw: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    lacking = [name for name in columns if name not in raw]
    if lacking:
        raise BadInput(f"{path}: no column {', '.join(lacking)}; was it made by another version?")
    return raw[list(columns)]
