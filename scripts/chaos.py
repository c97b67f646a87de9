"""Kill small runs at every bad moment, resume them, compare them with undisturbed ones.

    bash scripts/chaos.sh [--quick] [--seed 0] [--only grpo] [--folder DIR]

Each kind of training runs once undisturbed; what several processes made of its checkpoints is held
against what one makes of them, to 1e-5. Then its jobs are killed with SIGKILL, at random
moments and at chosen ones, and resumed with `--resume_from_checkpoint latest` until they end; or
the watcher is killed that makes their records, and begun again. A run ended equal where its
weights, its last checkpoint, its timeline, its records and its log are those of the undisturbed
run, byte for byte; times and rates are left out of log and records. Exit code 1 where one is not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table

from scripts.campaign.campaign import Campaign, Trial, World
from scripts.campaign.faults import AGAIN, FAULTS
from scripts.campaign.running import warm_up
from scripts.campaign.variants import LAUNCHED, VARIANTS, Variant
from train.tiny.base import base_model


def plan(campaign: Campaign, variants: Sequence[Variant], quick: bool) -> Iterator[Trial]:
    """Make all trials: what processes make together by one of them, every fault with one kind of
    training after another, then random moments, of jobs and of watchers."""
    launched = [variant for variant in variants if variant.ranks > 1]
    for variant in launched[:1] if quick else launched:
        yield campaign.by_one_process(variant)
    chosen = FAULTS[4::4] if quick else FAULTS
    struck = [*(one for one in variants if one not in launched), *launched[::3]]
    for index, fault in enumerate(chosen):
        yield campaign.faults(struck[index % len(struck)], fault.name, fault)
    yield campaign.faults(variants[0], "before a manifest, and in its resume", *AGAIN)
    for variant in variants[:2] if quick else variants:
        for _ in range(1 if quick or variant in launched else 2):
            yield campaign.random_kills(variant, 2)
    for variant in variants[:1] if quick else [*variants[:3], *launched[::5]]:
        yield campaign.watcher_kills(variant, 3)


def table(trials: Sequence[Trial]) -> Table:
    """One row per fault and kind of training."""
    rows: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        rows.setdefault((trial.fault, trial.variant), []).append(trial)
    table = Table("where killed", "training", "kills", "runs", "ended equal", "records lost")
    for (fault, variant), some in rows.items():
        table.add_row(fault, variant, *_totals(some))
    table.add_section()
    table.add_row("all", "", *_totals(trials))
    return table


def _totals(trials: Sequence[Trial]) -> list[str]:
    equal = sum(not trial.problems for trial in trials)
    kills, lost = sum(t.kills for t in trials), sum(t.lost for t in trials)
    return [str(kills), str(len(trials)), str(equal), str(lost)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a handful of trials")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--only", default="", help="kinds of training with this in their names")
    parser.add_argument("--folder", type=Path, help="where the runs are kept")
    options = parser.parse_args()
    console, begin = Console(highlight=False, width=104), time.monotonic()
    variants = [one for one in (*VARIANTS, *LAUNCHED) if options.only in one.name]
    if find_spec("deepspeed") is None:
        variants = [variant for variant in variants if "ZeRO" not in variant.name]
    base_model()
    warm_up()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        world = World("tiny", options.folder or Path(folder))
        world.folder.mkdir(parents=True, exist_ok=True)
        campaign = Campaign(world, options.seed)
        for trial in plan(campaign, variants, options.quick):
            verdict = "; ".join(trial.problems) or "equal"
            line = f"{trial.kills} kills, {trial.seconds:.0f} s: {verdict}"
            console.print(f"{trial.variant}, {trial.fault}: {line}")
    console.print(table(campaign.trials), f"{time.monotonic() - begin:.0f} s")
    if any(trial.problems or trial.lost for trial in campaign.trials):
        sys.exit(1)


if __name__ == "__main__":
    main()
