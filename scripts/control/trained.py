"""Controls that are trained: nothing is learned, or nothing that the prompts have to do with."""

from __future__ import annotations

import json
from pathlib import Path

from scripts.control.control import Outcome, World
from scripts.control.story import lasting, turned
from tracking.timeline.timeline import Timeline
from train.tiny.task import chat, problems

SEEDS = (0, 1, 2)
ROWS = 4096


def random_reward(world: World) -> Outcome:
    """GRPO under a coin."""
    runs = [
        world.run(
            f"coin-{seed}",
            "grpo",
            seed=seed,
            reward_funcs="scripts.control.coin.coin",
            log_completions="false",
        )
        for seed in SEEDS
    ]
    return _untaught(runs)


def shuffled_solutions(world: World) -> Outcome:
    """SFT on solutions of other problems."""
    data = world.folder / "shuffled.jsonl"
    drawn = problems("train", ROWS, seed=0)
    replies = [problem.solution for problem in drawn[1:] + drawn[:1]]
    rows = zip((problem.prompt for problem in drawn), replies, strict=True)
    data.write_text("".join(json.dumps({"messages": chat(*row)}) + "\n" for row in rows))
    run = world.run("shuffled", "sft", dataset_name=data, track_pairs_dataset="tiny")
    return _untaught([run])


def _untaught(runs: list[Path]) -> Outcome:
    """At most one node of all runs changes state, and no change is called lasting."""
    changed, words, levels = [], [], {}
    for run in runs:
        timeline = Timeline.read(run)
        for contrast in timeline.contrasts:
            place = f"{run.name}, {contrast}"
            changed += [f"{node} ({place})" for node in turned(timeline, contrast)]
            words += [f"{node} ({place})" for node in lasting(timeline, contrast)]
            levels.setdefault(contrast, []).append(f"{timeline.drift(contrast):.2f}")
    drift = "; ".join(f"{contrast} {', '.join(of_runs)}" for contrast, of_runs in levels.items())
    came = (
        f"changed state: {', '.join(changed) or 'none'}; lasting: {', '.join(words) or 'none'}; "
        f"largest drift of a share: {drift}"
    )
    return Outcome(came, len(changed) <= 1 and not words)


def plateau(world: World) -> Outcome:
    """Ten checkpoints at a learning rate of 0."""
    run = world.run("plateau", "grpo", learning_rate=0, max_steps=10, save_steps=1,
                    per_device_train_batch_size=8, track_pairs_count=64)  # fmt: skip
    timeline = Timeline.read(run)
    problems = []
    for contrast in timeline.contrasts:
        nodes, counts = timeline.of_contrast(contrast)
        said = {"changed state": turned(timeline, contrast), "lasting": lasting(timeline, contrast),
                "drifted": nodes.loc[nodes["drift"] != "", "node"].unique()}  # fmt: skip
        problems += [
            f"{contrast}: {', '.join(one)} {word}" for word, one in said.items() if len(one)
        ]
        if (counts["wiring_kept"].dropna() - 1).abs().max() > 0:
            problems.append(f"{contrast}: wiring kept is not 1")
    count = len(timeline.records)
    return Outcome("; ".join(problems) or f"{count} checkpoints: nothing", not problems)
