"""Checkpoints of which it is known what must be said of them, through the whole of the tracking.

    python -m scripts.controls [--quick] [--only noise] [--folder DIR]

Prints a Markdown table, a row as soon as it is done: the control, what must come out, what came
out, whether that is as asked, and seconds. Exit code 1 where a row is not. `--folder` keeps the
runs that are trained; a random reward's is a control for a run of your own with the same recipe:

    sparks show RUN --control DIR/coin-0
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch

from scripts.control.compared import gained, halves, recruited
from scripts.control.control import Control, Outcome, Row, World
from scripts.control.planted import gradual, sudden
from scripts.control.rewired import rewired
from scripts.control.simulated import fluctuating, unrelated
from scripts.control.still import gain, noise, other_pairs
from scripts.control.trained import own_replies, plateau, random_reward, shuffled_solutions
from train.run.console import quieten

AT_ONCE = 2
UNTAUGHT = "at most one node changes state, no lasting word"
HEADS = "336 heads x 30 checkpoints"
RARELY = "a false emergent head in at most 5 % of draws"
CONTROLS = (
    Control("random reward, GRPO, 3 seeds", UNTAUGHT, random_reward, trains=True),
    Control("SFT on the base's own replies", UNTAUGHT, own_replies, trains=True),
    Control("SFT on shuffled solutions", UNTAUGHT, shuffled_solutions, trains=True),
    Control("plateau, learning rate 0, 10 checkpoints", "nothing", plateau, trains=True),
    Control(
        "gain on the last norm, 0.1 to 8, base and trained, both contrasts",
        "no node changes state, wiring kept 1, behaviour grows",
        gain,
    ),
    *(Control(f"weight noise, {size:.0%} a checkpoint", RARELY, noise(size))
      for size in (0.01, 0.03, 0.1)),
    Control(
        "planted recruitment: a write from 0 to full over 8 checkpoints",
        "that node, at the right step, others only where their exact share changes, all draws",
        gradual(backwards=False),
    ),
    Control("planted fading: the same backwards", "likewise", gradual(backwards=True)),
    Control("one transition at a single checkpoint", "found, and lasting, in all draws", sudden),
    Control(
        "planted rewiring: two writers and two readers swap partners",
        "heads and behaviour as before, wiring not kept",
        rewired,
    ),
    Control(
        "other pairs of the same contrast",
        "verdicts agree on at least 95 % of decided nodes",
        other_pairs,
    ),
    Control(
        "compared: one model on two samples of pairs, 3 bases, both contrasts",
        "a node that differs in at most 5 % of draws",
        halves,
    ),
    Control("compared: gain on the last norm, 0.1 to 8", "no node differs", gained),
    Control(
        "compared: a model without a node's write, and with it",
        "that node is the second's only, others only where exact shares differ by the threshold",
        recruited,
    ),
    *(
        Control(
            f"simulated shares, {HEADS}, {kind} of {size:.0%}",
            "any lasting word in at most 5 % of draws",
            fluctuating(kind, size),
        )
        for kind in ("jitter", "walk", "growing walk")
        for size in (0.02, 0.05, 0.1, 0.2)
    ),
    Control(
        "heads unrelated to a saturating reward, 80 checkpoints",
        "significant, after correction, not surely in more than 5 %",
        unrelated,
    ),
)  # fmt: skip


def rows(chosen: Sequence[int], world: World) -> Iterator[Row]:
    """Make controls, two at a time; rows as they are done."""
    with ProcessPoolExecutor(AT_ONCE, mp_context=get_context("spawn")) as pool:
        jobs = {pool.submit(timed, place, world): CONTROLS[place] for place in chosen}
        for job in as_completed(jobs):
            yield Row(jobs[job], *job.result())


def timed(place: int, world: World) -> tuple[Outcome, float]:
    """Make one control: what came out, and the seconds that it took."""
    torch.set_num_threads(1)
    quieten()
    logging.getLogger("tracking").setLevel(logging.ERROR)  # four steps are few, and known to be
    begin = time.monotonic()
    outcome = CONTROLS[place].make(world)
    return outcome, time.monotonic() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a twentieth of the draws, no training"
    )
    parser.add_argument("--only", default="", help="controls with this in their names")
    parser.add_argument("--folder", type=Path, help="where the runs are kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="controls-") as folder:
        world = World((options.folder or Path(folder)).resolve(), options.quick)
        world.folder.mkdir(parents=True, exist_ok=True)
        chosen = [
            place
            for place, control in enumerate(CONTROLS)
            if options.only in control.name and not (options.quick and control.trains)
        ]
        if not chosen:
            parser.error(f"no control has {options.only!r} in its name")
        print("| control | must come out | came out | as asked | s |\n|---|---|---|---|---|")
        failed = 0
        for one in rows(chosen, world):
            print(one, flush=True)
            failed += not one.outcome.as_asked
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
