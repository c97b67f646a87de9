"""How much a long run logs to W&B, by part: offline, of a synthetic ledger, with no model.

    python -m scripts.bench_dashboard [--checkpoints 100]     # exit code 1 above 50 MB

28 layers of 12 heads and an MLP, 3 contrasts, random shares of which most nodes are active at some
time: the table has nearly all of its rows. To be quick, checkpoints without images are logged ten
at a time: images and table are whole, curves and summary are scaled up.
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
MOST = 50e6  # bytes


def main() -> None:
    """Log a run, and print the size of each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        whole = _measure(Path(folder), options.checkpoints)
    if whole > MOST:
        raise SystemExit(f"above {MOST / 1e6:.0f} MB")


def _measure(folder: Path, checkpoints: int) -> float:
    """Bytes that a run logs."""
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
    drawn = [count for count in range(1, checkpoints + 1) if pictured(count)]
    shown = sorted({*drawn, *range(10, checkpoints, 10), checkpoints})
    for last in shown:
        begin = time.monotonic()
        timeline = Timeline.of(records[:last])
        derived = time.monotonic()
        dashboard.show(timeline, None)
        seconds = derived - begin, time.monotonic() - derived
        print(f"{last:4} checkpoints: derived in {seconds[0]:.1f} s, shown in {seconds[1]:.1f} s")
    dashboard.close()
    wandb.finish()
    (run,) = folder.glob("wandb/offline-run-*")
    sets = len({*drawn, checkpoints})
    parts = {
        f"{sets} sets of images": _bytes(run / "files" / "media" / "images"),
        f"table of {len(ever_active(timeline))} rows": _bytes(run / "files" / "media" / "table"),
        "the same as artifacts": _bytes(folder / "data") / 2,  # each is staged twice
        "curves, summary, config": next(run.glob("*.wandb")).stat().st_size
        * checkpoints
        / len(shown),
    }
    for part, size in {**parts, "all": sum(parts.values())}.items():
        print(f"{part:26} {size / 1e6:7.2f} MB")
    return sum(parts.values())


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
