"""Make the model of docs/thinking.md and docs/prompt-and-weights.md: a tiny model that was trained
in both modes of thinking.

    python scripts/study_thinking.py [FOLDER] [--seed 0]

The shipped base of a seed gets a chat template that knows `enable_thinking`, and learns by SFT to
work problems out within a `<think>` block and, after an empty one, behind it:

    on     <think>\\n3+5=8;8*2=6;-6=4;\\n</think>\\n\\n####4
    off    <think>\\n\\n</think>\\n\\n3+5=8;8*2=6;-6=4;####4

Then `sparks compare FOLDER/run --thinking` and
`sparks compare FOLDER/base FOLDER/run --contrast opening --benchmarks tiny-hard`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from train.commands import sft
from train.comparison.thinking import EMPTY, OPENED
from train.tiny.base import base_model
from train.tiny.task import chat, problems
from train.tiny.tokenizer import tokenizer

ROWS = 8192
SWITCH = (
    "{% if add_generation_prompt and enable_thinking is defined and enable_thinking is false %}"
    r"{{ '<think>\n\n</think>\n\n' }}{% endif %}"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", default="runs/thinking", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    base, rows = options.folder / "base", options.folder / "both_modes.jsonl"
    if not base.exists():
        save_base(base, options.seed)
    write_rows(rows, options.seed)
    words = ["--config", "recipes/tiny/sft.yaml", "--model_name_or_path", base,
             "--dataset_name", rows, "--track_pairs_dataset", "tiny", "--seed", options.seed,
             "--learning_rate", "1e-3", "--lr_scheduler_type", "cosine", "--max_steps", 160,
             "--save_steps", 160, "--report_to", "none",
             "--output_dir", options.folder / "run"]  # fmt: skip
    sft.main([*map(str, words)])


def save_base(folder: Path, seed: int) -> None:
    """The shipped base with the switch in its chat template."""
    shutil.copytree(base_model(seed), folder)
    words = tokenizer()
    words.chat_template = f"{words.chat_template}{SWITCH}"
    words.save_pretrained(folder)


def write_rows(path: Path, seed: int) -> None:
    """Problems of the train split, every other one with thinking off."""
    with path.open("w") as file:
        for place, problem in enumerate(problems("train", ROWS, seed)):
            steps, answer = problem.solution.split("####")
            on = f"{OPENED}{steps}\n</think>\n\n####{answer}"
            reply = on if place % 2 else f"{EMPTY}{steps}####{answer}"
            file.write(f"{json.dumps({'messages': chat(problem.prompt, reply)})}\n")


if __name__ == "__main__":
    main()
