"""How much a long run logs to W&B, by part: offline, of a synthetic ledger, with no model.

    python -m scripts.bench_dashboard [--checkpoints 100] [--shown 10]

28 layers of 12 heads and an MLP, 3 contrasts, random shares of which most nodes are active at some
time: the table has nearly all of its rows. Of the checkpoints only `--shown` are logged, evenly
spaced, each with all rows since the one before: the table is whole; the size of images between is
that of a straight line, curves and summary are scaled up.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
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
    without_machine = wandb.Settings(x_disable_stats=True)
    wandb.init(project="bench", mode="offline", dir=folder, settings=without_machine)
    dashboard, args = Dashboard(raises=True), SimpleNamespace(report_to=["wandb"])
    any_args: Any = args
    dashboard.open(any_args, 0, {})
    assert wandb.run is not None
    images, every = Path(wandb.run.dir) / "media" / "images", checkpoints // shown
    sizes = {0: 0}  # of all images by then, by checkpoints
    for last in range(every, checkpoints + 1, every):
        begin = time.monotonic()
        timeline = Timeline.of(records[:last])
        derived = time.monotonic()
        dashboard.show(timeline, None)
        seconds = derived - begin, time.monotonic() - derived
        print(f"{last:4} checkpoints: derived in {seconds[0]:.1f} s, shown in {seconds[1]:.1f} s")
        sizes[last] = _bytes(images)
    dashboard.close()
    sizes[checkpoints] = _bytes(images)
    wandb.finish()
    sets = [count for count in range(1, checkpoints + 1) if pictured(count) or count == checkpoints]
    (run,) = folder.glob("wandb/offline-run-*")
    history = next(run.glob("*.wandb")).stat().st_size
    parts = {
        f"{len(sets)} sets of images": _of_sets(sizes, sets),
        f"table of {len(ever_active(timeline))} rows": _bytes(run / "files" / "media" / "table"),
        "the same as artifacts": _bytes(folder / "data") / 2,  # each is staged twice
        "curves, summary, config": history * checkpoints / shown,
    }
    for part, size in {**parts, "all": sum(parts.values())}.items():
        print(f"{part:26} {size / 1e6:7.2f} MB")


def _of_sets(sizes: dict[int, int], sets: list[int]) -> float:
    """Bytes of the sets of images after so many checkpoints, between those that were made by a
    straight line."""
    counts = list(sizes)
    made = {b: sizes[b] - sizes[a] for a, b in pairwise(counts) if sizes[b] > sizes[a]}
    return float(np.interp(sets, list(made), list(made.values())).sum())


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
