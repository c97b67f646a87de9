"""Whether the tiny world's GRPO tells one story, whatever the seed and the CPU's instruction set.

    python scripts/study_seeds.py runs/seeds             trains what is missing: 30 runs, 75 s each
    python scripts/study_seeds.py runs/seeds --table     the table of docs/tiny.md

Seeds 0 to 9 from the base of seed 0, each with torch's plain, AVX2 and AVX-512 kernels, which round
differently. A line of `runs/seeds/rows.jsonl` for every run: its rewards, its held-out answers, and
at the base, the middle and the end the behaviour on the pairs of seed 0 and the share of every head
and MLP in it, by corrupting and by restoring each alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from tracking import PromptPairs
from tracking.attribution import metrics
from tracking.model.decoder import Decoder
from tracking.model.ends import AllEnds
from tracking.nodes.effects import node_effects
from tracking.stability.bootstrap import Interval, interval, resamples, share
from train import config
from train.commands import grpo
from train.commands.demo import RECIPE
from train.data import contrasts
from train.tiny import evaluation, task
from train.tiny import tokenizer as tiny
from train.tiny.base import base_model

SETS = ("avx512", "avx2", "default")
SEEDS = range(10)
PAIRS = "128"  # more than the demo takes, so that states are sure
ACTIVE = 0.05  # share of the behaviour


# --------------------------------------------------------------------------------------------------
# One run


def run(folder: Path, instructions: str, seed: int) -> dict[str, Any]:
    """Train one run, if it has not been, and measure it: what a line of the table is made from."""
    out = folder / f"{instructions}-seed{seed}"
    if not (out / "model.safetensors").exists():
        shutil.rmtree(out, ignore_errors=True)
        train(out, seed)
    checkpoints = sorted(out.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    middle, last = checkpoints[(len(checkpoints) - 1) // 2], checkpoints[-1]
    log = json.loads((last / "trainer_state.json").read_text())["log_history"]
    models = {"first": base_model(0), "middle": middle, "last": last}
    asked = task.problems("test", 500, seed=7, cue_matters=True)
    texts = evaluation.replies(load(last), tiny.tokenizer(), asked)
    answers = evaluation.evaluate(asked, texts)
    row = {
        "instructions": instructions, "seed": seed,
        "rewards": [line["reward"] for line in log if "reward" in line],
        "seconds": round(sum(line.get("step_time", 0) for line in log)),
        "right": answers.right, "flip": answers.flip,
        "at": {name: measured(load(path)) for name, path in models.items()},
    }  # fmt: skip
    for checkpoint in checkpoints:
        if checkpoint not in (checkpoints[0], middle, last):
            shutil.rmtree(checkpoint)
    return row


def train(out: Path, seed: int) -> None:
    """The recipe of the demo from the base of seed 0, untracked."""
    fixed = {
        "config": RECIPE, "model_name_or_path": base_model(0), "output_dir": out, "seed": seed,
        "track": False, "report_to": "none", "log_completions": False, "save_only_model": True,
    }  # fmt: skip
    grpo.main([word for key, value in fixed.items() for word in (f"--{key}", str(value))])


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def measured(model: Any) -> dict[str, Any]:
    """By contrast the behaviour, and the shares in it of heads and MLPs: [mean, low, high]."""
    job = config.load(
        "grpo", ["--config", str(RECIPE), "--report_to", "none", "--track_pairs_count", PAIRS]
    )
    pairs = contrasts.build(job, tiny.tokenizer(), lambda: None)
    return {name: shares(model, of_contrast) for name, of_contrast in pairs.items()}


def shares(model: Any, pairs: PromptPairs) -> dict[str, Any]:
    """The behaviour, and the share of every node in it, with 95 % intervals over the pairs."""
    decoder = Decoder.of(model)
    everything = torch.ones(len(decoder.graph.nodes), dtype=torch.bool)
    loss = metrics.resolve("neg_logit_diff")
    effects = node_effects(AllEnds.of(decoder, pairs, batch_size=64), everything, loss)
    weights = resamples(1000, len(pairs))
    of_all = numbers(interval(effects.behaviour[:, None], weights))[0]
    by_node = zip(
        decoder.graph.nodes,
        numbers(share(effects.corrupt, effects.behaviour, weights)),
        numbers(share(effects.restore, effects.behaviour, weights)),
        strict=True,
    )
    nodes = {name: {"corrupt": lost, "restore": gained} for name, lost, gained in by_node}
    return {"behaviour": of_all, "nodes": nodes}


def numbers(intervals: Interval) -> list[list[float]]:
    """Mean, low and high of each."""
    columns = torch.stack([intervals.mean, intervals.low, intervals.high], dim=1)
    return [[round(value, 4) for value in row] for row in columns.tolist()]


# --------------------------------------------------------------------------------------------------
# The table


def activity(node: dict[str, list[float]]) -> bool | None:
    """Whether a node is active: a share surely at least 0.05 from 0; None where undecided."""
    intervals = [(low, high) for _, low, high in node.values()]
    if any(low >= ACTIVE or high <= -ACTIVE for low, high in intervals):
        return True
    return None if any(low <= -ACTIVE or high >= ACTIVE for low, high in intervals) else False


def changes(row: dict[str, Any], kind: str, contrast: str = "cue") -> list[list[str]]:
    """Names of the heads (`kind` L) or MLPs (M) active at the base, of those recruited since and
    of those faded."""
    first, last = (
        {n: activity(of) for n, of in row["at"][when][contrast]["nodes"].items() if n[0] == kind}
        for when in ("first", "last")
    )
    return [
        [name for name in first if first[name]],
        [name for name in first if first[name] is False and last[name]],
        [name for name in first if first[name] and last[name] is False],
    ]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """All runs in Markdown, by seed and instruction set."""
    head = (
        "seed | kernels | reward | right | `cue` first | last | `operand` first | last "
        "| heads: base | recruited | faded | MLPs: base | recruited | faded"
    )
    lines = [f"| {head} |", "|---" * (head.count("|") + 1) + "|"]
    for row in sorted(rows, key=lambda row: (row["seed"], SETS.index(row["instructions"]))):
        last = row["rewards"][-len(row["rewards"]) // 10 :]
        sizes = [
            f"{row['at'][when][contrast]['behaviour'][0]:.2f}"
            for contrast in ("cue", "operand")
            for when in ("first", "last")
        ]
        nodes = [
            str(len(names)) if kind == "L" and place == 0 else " ".join(names) or "-"
            for kind in "LM"
            for place, names in enumerate(changes(row, kind))
        ]
        shown = f"{sum(last) / len(last):.2f}", f"{row['right']:.2f}"
        cells = str(row["seed"]), row["instructions"], *shown, *sizes, *nodes
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


# --------------------------------------------------------------------------------------------------
# All runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--table", action="store_true", help="train nothing")
    parser.add_argument("--only", choices=SETS, help="the runs of one set, in this process")
    options = parser.parse_args()
    path = options.folder / "rows.jsonl"
    if options.only:
        torch.set_num_threads(1)
        for seed in missing(path, options.only):
            row = run(options.folder, options.only, seed)
            with path.open("a") as lines:
                lines.write(json.dumps(row) + "\n")
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    for instructions in SETS:
        if missing(path, instructions) and not options.table:
            # A process of its own: torch chooses its kernels when it is loaded.
            environment = {"ATEN_CPU_CAPABILITY": instructions, "OMP_NUM_THREADS": "1"}
            again = [sys.executable, __file__, str(options.folder), "--only", instructions]
            subprocess.run(again, check=True, env={**os.environ, **environment})
    print(table(read(path)))


def missing(path: Path, instructions: str) -> list[int]:
    """The seeds that have no row yet."""
    there = {row["seed"] for row in read(path) if row["instructions"] == instructions}
    return [seed for seed in SEEDS if seed not in there]


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    main()
