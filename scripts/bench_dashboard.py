"""How much a long run logs to W&B, by part: offline, of a synthetic ledger, with no model.

    python scripts/bench_dashboard.py [--checkpoints 100] [--shown 10]

28 layers of 12 heads and an MLP, 3 contrasts, random shares of which most nodes are active at some
time: the table has nearly all of its rows. Of the checkpoints only `--shown` are logged, evenly
spaced, each with all rows since the one before: the table is whole; images, curves and summary are
scaled up to as many as a whole run logs.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import wandb

from tests.builders.runs import write_run
from tracking import Ledger, Timeline
from tracking.model.graph import Graph
from tracking.views.dashboard import Dashboard, ever_active, pictured

CONTRASTS = ("operand", "result", "answer")


def main() -> None:
    """Log a run, and print the size of each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=int, default=100)
    parser.add_argument("--shown", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _measure(Path(folder), options.checkpoints, options.shown)


def _measure(folder: Path, checkpoints: int, shown: int) -> None:
    ledger = Ledger(folder / "run" / "heads")
    for step in range(checkpoints):
        write_run(folder / "run", (100 * step,), Graph(28, 12), CONTRASTS)
    records = ledger.records()
    os.environ |= {"WANDB_DATA_DIR": str(folder / "data"), "WANDB_SILENT": "true"}
    wandb.init(project="bench", mode="offline", dir=folder)
    dashboard, args = Dashboard(raises=True), SimpleNamespace(report_to=["wandb"])
    any_args: Any = args
    dashboard.open(any_args, 0, {})
    rows, every = 0, checkpoints // shown
    for last in range(every, checkpoints + 1, every):
        begin = time.monotonic()
        timeline = Timeline.of(records[:last])
        derived = time.monotonic()
        dashboard.show(timeline, None)
        rows = len(ever_active(timeline))
        seconds = derived - begin, time.monotonic() - derived
        print(f"{last:4} checkpoints: derived in {seconds[0]:.1f} s, shown in {seconds[1]:.1f} s")
    wandb.finish()
    (run,) = folder.glob("wandb/offline-run-*")
    sets = sum(map(pictured, range(checkpoints + 1))) + (not pictured(checkpoints)) - 1
    sets_shown = len([*(run / "files/media/images").rglob("map_*.png")]) / len(CONTRASTS)
    media = _bytes(run / "files/media/images"), _bytes(run / "files/media/table")
    sizes = {
        f"{sets} sets of images": media[0] * sets / sets_shown,
        f"table of {rows} rows": media[1],
        "the same as artifacts": _bytes(folder / "data") / 2,  # each is staged twice
        "curves, summary, config": (_bytes(run) - sum(media)) * checkpoints / shown,
    }
    for part, size in {**sizes, "all": sum(sizes.values())}.items():
        print(f"{part:26} {size / 1e6:7.2f} MB")


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
