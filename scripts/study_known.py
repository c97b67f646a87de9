"""Whether Sparks finds, on a real language model, the circuits that others have taken apart.

    bash scripts/get_smollm2.sh
    python scripts/study_known.py > tables.md

Prints the tables of docs/known-circuits.md: of SmolLM2-135M-Instruct on indirect objects (two ways
to corrupt), induction and greater-than, what a record of Sparks says of heads beside what papers
tell them by, and how far edge scores are from a slow twin's. Progress is on stderr.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called by its path, too

from scripts.known import prompts, tables
from scripts.known.study import Study, accuracy
from scripts.known.task import Task, greater_than, indirect_objects, repeated_tokens
from scripts.known.twins import differences
from tracking import BadInput
from train.smollm2 import smollm2

PAIRS = 16
TASKS: tuple[Callable[[Any, int], Task], ...] = (
    partial(indirect_objects, swapped=True),
    partial(indirect_objects, swapped=False),
    repeated_tokens,
    greater_than,
)


def main() -> int:
    try:
        folder = smollm2()
    except BadInput as error:
        print(f"study_known: {error}", file=sys.stderr)
        return 2
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tasks = [make(tokenizer, PAIRS) for make in TASKS]
    print("## What the model can do\n\n" + tables.tried(tried(model, tokenizer, tasks)))
    studies = list(studied(model, tasks))
    print("\n## The tasks\n\n" + tables.tasks(studies))
    print("\n## Circuits by size\n\n" + tables.curves(studies))
    for study in studies:
        print(f"\n## {study.task.name}\n\n" + tables.nodes(study))
        print("\n" + tables.classes(study))
        print("\n" + tables.strangers(study))
        print("\n" + tables.wires(study))
    print("\n## MLPs\n\n" + tables.mlps(studies))
    print("\n## Agreement\n\n" + tables.agreement(studies))
    print("\n## The slow twin\n\n" + tables.twins(differences(model, tasks)))
    return 0


def tried(model: Any, tokenizer: Any, tasks: Sequence[Task]) -> list[tuple[str, int, float]]:
    """What the model was asked, how often, and in which share of cases its top token was right; of
    the tasks and of the successors of days and months."""
    out = [(task.name, len(task.pairs), accuracy(model, task)) for task in tasks]
    asked = prompts.followers()
    for kind in prompts.FOLLOWING:
        rows = [(text, following) for of, text, following in asked if of == kind]
        ids = torch.tensor([tokenizer(text)["input_ids"] for text, _ in rows])
        with torch.no_grad():
            top = tokenizer.batch_decode(model(ids).logits[:, -1].argmax(-1, keepdim=True))
        right = sum(next_word == f" {word}" for next_word, (_, word) in zip(top, rows, strict=True))
        out.append((f"successor of a {kind}", len(rows), right / len(rows)))
    return out


def studied(model: Any, tasks: Sequence[Task]) -> Iterator[Study]:
    """A record on every task; progress goes to stderr."""
    begin = time.monotonic()
    for task in tasks:
        print(f"{time.monotonic() - begin:4.0f} s  {task.name}", file=sys.stderr, flush=True)
        yield Study.of(model, task)


if __name__ == "__main__":
    sys.exit(main())
