"""Make the models of docs/thinking.md and docs/prompt-and-weights.md, tiny ones that are trained in
both modes of thinking, compare them, and print the tables over seeds.

    python scripts/study_thinking.py [FOLDER] [--seeds 0 1 2 ...]

The shipped base of a seed (there are three, taken in turn) gets a chat template that knows
`enable_thinking`, and learns by SFT to work problems out within a `<think>` block and, after an
empty one, behind it:

    on     <think>\\n3+5=8;8*2=6;-6=4;\\n</think>\\n\\n####4
    off    <think>\\n\\n</think>\\n\\n3+5=8;8*2=6;-6=4;####4

Then, for every seed, `sparks compare RUN --thinking` and
`sparks compare BASE RUN --contrast opening --benchmarks tiny-hard --limit 128`. What is there is
not made again.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from train.commands import compare, sft
from train.comparison.thinking import EMPTY, OPENED
from train.tiny.base import base_model
from train.tiny.task import chat, problems
from train.tiny.tokenizer import tokenizer

BASES = 3
ROWS = 8192
SWITCH = (
    "{% if add_generation_prompt and enable_thinking is defined and enable_thinking is false %}"
    r"{{ '<think>\n\n</think>\n\n' }}{% endif %}"
)
OPENING = ("--contrast", "opening", "--benchmarks", "tiny-hard", "--limit", "128")
DRAWS = 10_000  # of seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", default="runs/thinking", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    folders = {seed: options.folder / f"seed{seed}" for seed in options.seeds}
    for seed, folder in folders.items():
        make(folder, seed)
    print(openings_table(folders), modes_table(folders), breadth_table(folders), sep="\n\n")


# --------------------------------------------------------------------------------------------------
# Models and comparisons


def make(folder: Path, seed: int) -> None:
    """The base, the run and both comparisons of a seed, as far as they are not there."""
    base, run = folder / "base", folder / "run"
    missing(base, lambda: save_base(base, seed))
    missing(run, lambda: train(base, run, folder / "both_modes.jsonl", seed))
    missing(folder / "openings", lambda: compared(folder / "openings", base, run, *OPENING))
    missing(folder / "thinking", lambda: compared(folder / "thinking", run, "--thinking"))


def compared(folder: Path, *words: object) -> None:
    compare.main([*map(str, words), "--output_dir", str(folder)])


def missing(folder: Path, build: Callable[[], None]) -> None:
    """Build a folder that is not there whole."""
    whole = folder / ".whole"
    if not whole.exists():
        shutil.rmtree(folder, ignore_errors=True)
        build()
        whole.touch()


def save_base(folder: Path, seed: int) -> None:
    """The shipped base with the switch in its chat template."""
    shutil.copytree(base_model(seed % BASES), folder)
    words = tokenizer()
    words.chat_template = f"{words.chat_template}{SWITCH}"
    words.save_pretrained(folder)


def train(base: Path, run: Path, rows: Path, seed: int) -> None:
    """SFT in both modes."""
    write_rows(rows, seed)
    words = ["--config", "recipes/tiny/sft.yaml", "--model_name_or_path", base,
             "--dataset_name", rows, "--track_pairs_dataset", "tiny", "--seed", seed,
             "--learning_rate", "1e-3", "--lr_scheduler_type", "cosine", "--max_steps", 160,
             "--save_steps", 160, "--report_to", "none", "--output_dir", run]  # fmt: skip
    sft.main([*map(str, words)])


def write_rows(path: Path, seed: int) -> None:
    """Problems of the train split, every other one with thinking off."""
    with path.open("w") as file:
        for place, problem in enumerate(problems("train", ROWS, seed)):
            steps, answer = problem.solution.split("####")
            on = f"{OPENED}{steps}\n</think>\n\n####{answer}"
            reply = on if place % 2 else f"{EMPTY}{steps}####{answer}"
            file.write(f"{json.dumps({'messages': chat(problem.prompt, reply)})}\n")


# --------------------------------------------------------------------------------------------------
# Tables


def openings_table(folders: dict[int, Path]) -> str:
    """Of the nodes that swapped openings call emergent, those that fixed pairs do; a row a seed and
    metric, and over all seeds with the 95 % interval of seeds drawn again."""
    rows = []
    for metric in ("logit difference", "KL"):
        counts = []
        for seed, folder in folders.items():
            table = pd.read_csv(folder / "openings" / "emergent.csv")
            table = table[(table["metric"] == metric) & table["swapped"]]
            kept = table["fixed_a"], table["fixed_b"], table["fixed_a"] & table["fixed_b"]
            counts.append([len(table), *(int(one.sum()) for one in kept)])
            rows.append((seed, metric, *counts[-1]))
        rows.append(("all", metric, *pooled(np.array(counts))))
    return markdown(
        ("seed", "by", "emergent, swapped design", "of these with A's opening for both",
         "with B's", "with either"), rows,
    )  # fmt: skip


def pooled(counts: np.ndarray) -> list[str]:
    """The number of all, and the share of each kind, with an interval over seeds; counts [seed,
    kind], the first kind being all."""
    drawn = np.random.default_rng(0).integers(len(counts), size=(DRAWS, len(counts)))
    total, draws = counts.sum(0), counts[drawn].sum(1)
    low, high = np.nanquantile(draws[:, 1:] / draws[:, :1], (0.025, 0.975), axis=0)
    shares = zip(total[1:] / total[0], low, high, strict=True)
    return [str(total[0]), *(f"{value:.2f} ({a:.2f} to {b:.2f})" for value, a, b in shares)]


def modes_table(folders: dict[int, Path]) -> str:
    """How many nodes are active in both modes and in one only, and what these are put down to."""
    rows = []
    for seed, folder in folders.items():
        table = pd.read_csv(folder / "thinking" / "modes.csv", keep_default_na=False)
        for contrast, nodes in table.groupby("contrast"):
            only = [
                "; ".join(f"{row['node']} ({row['of']})" for _, row in part.iterrows()) or "none"
                for mode in ("on only", "off only")
                for part in [nodes[nodes["mode"] == mode]]
            ]
            counts = nodes["mode"].value_counts()
            rows.append((seed, contrast, counts.get("both", 0), *only, counts.get("undecided", 0)))
    return markdown(("seed", "contrast", "both", "on only", "off only", "undecided"), rows)


def breadth_table(folders: dict[int, Path]) -> str:
    """Edges at equal faithfulness as a ratio; over seeds the geometric mean with Student's 95 %
    interval."""
    tables = [
        pd.read_csv(folder / "thinking" / "breadth_ratios.csv").assign(seed=seed)
        for seed, folder in folders.items()
    ]
    rows = []
    for (contrast, name, against), part in pd.concat(tables).groupby(
        ["contrast", "condition", "against"]
    ):
        finite = part[np.isfinite(part["edges"]) & (part["edges"] > 0)]
        each = ", ".join(f"{value:.2f}" for value in finite["edges"])
        called = f"{int(part['broader'].sum())} broader, {int(part['narrower'].sum())} narrower"
        rows.append((contrast, f"{name} / {against}", each, mean_ratio(finite["edges"]), called))
    return markdown(("contrast", "edges of", "in each seed", "mean", "called"), rows)


def mean_ratio(ratios: pd.Series) -> str:
    logs = np.log(ratios.to_numpy())
    if len(logs) < 2:
        return ""
    low, high = stats.t.interval(0.95, len(logs) - 1, logs.mean(), stats.sem(logs))
    return f"{np.exp(logs.mean()):.2f} ({np.exp(low):.2f} to {np.exp(high):.2f})"


def markdown(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    header = [*header]
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


if __name__ == "__main__":
    main()
