"""Controls that are trained: nothing is taught, or what was there is unlearned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer

from scripts.control.control import Outcome, World
from scripts.control.models import loaded, tiny_pairs
from scripts.control.story import lasting, shares, turned
from tracking.timeline.activity import Thresholds
from tracking.timeline.summary import Summary
from tracking.timeline.timeline import Timeline
from train.tiny.base import base_model
from train.tiny.evaluation import replies
from train.tiny.task import Problem, chat, problems

SEEDS = (0, 1, 2)
ROWS = 4096
OTHER = (1, 2, 3, 4)  # seeds of the draws that say what a share truly is
DRAWN = 128  # pairs of each, as many as the runs have
UNMOVED = Thresholds().share / 2  # a share that changed by less did not change


def random_reward(world: World) -> Outcome:
    """GRPO under a coin."""
    runs = [
        world.run(
            f"coin-{seed}",
            "grpo",
            seed=seed,
            save_steps=20,
            reward_funcs="scripts.control.coin.coin",
            log_completions="false",
        )
        for seed in SEEDS
    ]
    return _untaught(runs)


def own_replies(world: World) -> Outcome:
    """SFT on what the base itself replies, drawn from its own distribution: it is where the loss is
    least, so there is nothing to learn."""
    drawn, folder = problems("train", ROWS, seed=0), base_model()
    texts = replies(loaded(folder), AutoTokenizer.from_pretrained(folder), drawn)
    return _untaught([_fine_tuned(world, "own-replies", drawn, texts)])


def shuffled_solutions(world: World) -> Outcome:
    """SFT on solutions of other problems, with what other pairs say of every change, by brute
    force."""
    drawn = problems("train", ROWS, seed=0)
    texts = [problem.solution for problem in drawn[1:] + drawn[:1]]
    run = _fine_tuned(world, "shuffled", drawn, texts)
    untaught, timeline = _untaught([run]), Timeline.read(run)
    parts = [untaught.came]
    for contrast in timeline.contrasts:
        summary = Summary.of(timeline, contrast)
        changed = turned(timeline, contrast) | dict.fromkeys(summary.lasting, summary.steps[1])
        moved = _moved(run, contrast, changed)
        there = sum(by >= UNMOVED for by in moved.values())
        parts.append(
            f"{contrast}: the behaviour {summary.change}, "
            f"{there} of {len(moved)} there on other pairs"
        )
    return Outcome("; ".join(parts), untaught.as_asked)


def _fine_tuned(world: World, name: str, drawn: Sequence[Problem], texts: Sequence[str]) -> Path:
    """The folder of an SFT run on replies to problems."""
    data = world.folder / f"{name}.jsonl"
    rows = zip((problem.prompt for problem in drawn), texts, strict=True)
    data.write_text("".join(json.dumps({"messages": chat(*row)}) + "\n" for row in rows))
    return world.run(name, "sft", dataset_name=data, track_pairs_dataset="tiny")


def _moved(run: Path, contrast: str, changed: dict[str, int]) -> dict[str, float]:
    """By how much each node's share of a behaviour differs between the base and the checkpoint at
    which it changed, the mean of other draws of pairs."""
    moved = {}
    for step in sorted({*changed.values()}):
        nodes = [node for node, at in changed.items() if at == step]
        models = [loaded(folder) for folder in (base_model(), run / f"checkpoint-{step}")]
        draws = [shares(models, tiny_pairs(contrast, DRAWN, seed), nodes) for seed in OTHER]
        for node in nodes:
            change = np.mean([np.diff(draw[node], axis=0)[0] for draw in draws], axis=0)
            moved[node] = float(np.abs(change).max())
    return moved


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
        by_word = {
            "changed state": turned(timeline, contrast),
            "lasting": lasting(timeline, contrast),
            "drifted": nodes.loc[nodes["drift"] != "", "node"].unique(),
        }
        problems += [
            f"{contrast}: {', '.join(one)} {word}" for word, one in by_word.items() if len(one)
        ]
        if (counts["wiring_kept"].dropna() - 1).abs().max() > 0:
            problems.append(f"{contrast}: wiring kept is not 1")
    count = len(timeline.records)
    return Outcome("; ".join(problems) or f"{count} checkpoints: nothing", not problems)
