"""What watch mode, and inline tracking, add to the time of training, in pairs of the same run.

    OMP_NUM_THREADS=1 python -m scripts.bench_watch [--repeats 9] [--job grpo] [--max_steps 24]

Each repeat trains the tiny world's base untracked, in watch mode with nobody watching, and tracked
inline, one after another in random order. Time is that of the whole job, without loading the
libraries. A watcher on the same machine would take time of its own: it belongs on another device.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
from scipy import stats

from scripts.campaign.running import Running, warm_up
from scripts.campaign.variants import Variant
from train.tiny.base import base_model

REPO = Path(__file__).resolve().parents[1]
WAYS = {
    "untracked": {"track": "false"},
    "watch": {"track_mode": "watch"},
    "inline": {"track_mode": "inline"},
}


def seconds(folder: Path, job: str, keys: dict[str, object]) -> float:
    """How long a whole job takes, in a process that has the libraries."""
    keys = {"config": REPO / "recipes" / "tiny" / f"{job}.yaml", "report_to": "none",
            "model_name_or_path": base_model(), "output_dir": folder, **keys}  # fmt: skip
    words = [word for key, value in keys.items() for word in (f"--{key}", str(value))]
    begin = time.monotonic()
    running = Running(Variant(job, job), words, folder.with_suffix(".log"))
    if code := running.wait(600):
        raise SystemExit(f"{folder.with_suffix('.log')}: exit code {code}")
    return time.monotonic() - begin


def line(name: str, times: Sequence[float], floor: Sequence[float]) -> str:
    """The mean of paired ratios with its 95 % interval."""
    logs = np.log(np.array(times) / np.array(floor))
    half = stats.sem(logs) * stats.t.ppf(0.975, len(logs) - 1)
    low, middle, high = np.exp([logs.mean() - half, logs.mean(), logs.mean() + half])
    return f"| {name} | {np.median(times):.1f} | {middle:.3f} ({low:.3f} to {high:.3f}) |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--job", default="grpo", choices=("sft", "grpo"))
    parser.add_argument("--max_steps", type=int, default=24)
    options = parser.parse_args()
    warm_up()
    random, times = Random(0), {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory(prefix="watch-") as folder:
        for repeat in range(options.repeats):
            for name in random.sample([*WAYS], len(WAYS)):
                keys = {"max_steps": options.max_steps, "save_steps": 8, **WAYS[name]}
                times[name].append(seconds(Path(folder) / f"{name}-{repeat}", options.job, keys))
    print("| training | seconds, median | over untracked |\n|---|---|---|")
    for name, of_way in times.items():
        print(line(name, of_way, times["untracked"]))


if __name__ == "__main__":
    main()
