"""Time of a whole record against its floor, by part, measured in the same process and run.

    python -m scripts.bench_record [--repeats 3] [--model FOLDER [--pairs PAIRS.jsonl]]

The floor is 8 bare forward and backward passes of the model on the record's pairs, with gradients
to activations only. What is timed is a run's second record, of the same weights: the first also
searches for the run's size. A model of your own is timed in the place of the built-in ones, on
your pairs or on 8 sums of one digit.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from scripts.bench.parts import PARTS, Cost, by_part, floor
from scripts.bench.shapes import BASE, build, pairs_for
from tracking import PromptPairs, contrast
from tracking.analysis import analyse
from tracking.settings import Settings
from train import config
from train.data import contrasts
from train.tiny.base import base_model

BATCH = 64


def sums(tokenizer: Any) -> PromptPairs:
    """Pairs that differ in the second number of a sum, with another sum before it."""
    problem = "2 + 15 = 17\n{} + {} = "
    drawn = [(first, second) for first in (1, 3, 4, 6) for second in (1, 2)]
    return PromptPairs.from_text(
        tokenizer,
        [
            (problem.format(a, b), problem.format(a, b + 1), str(a + b), str(a + b + 1))
            for a, b in drawn
        ],
    )


def compare(name: str, model: Any, pairs: PromptPairs, repeats: int) -> None:
    """Print the fastest of the repeats, by part, over the fastest floor."""
    settings = Settings(batch_size=BATCH)
    first = analyse(model, {"pairs": pairs}, settings)
    before = {"pairs": contrast.Before.of([first["pairs"]], settings.rank)}
    floors, wholes, parts = [], [], []
    for _ in range(repeats):
        begin = time.perf_counter()
        floor(model, pairs, BATCH)
        floors.append(time.perf_counter() - begin)
        costs: list[tuple[str, Cost]] = []
        with by_part(model.device, lambda *cost, to=costs: to.append(cost)):
            begin = time.perf_counter()
            analyse(model, {"pairs": pairs}, settings, before=before)
            wholes.append(time.perf_counter() - begin)
        parts.append({part: cost.seconds for part, cost in costs})
    best, lowest = wholes.index(min(wholes)), min(floors)
    effects = sum(parts[best].get(PARTS[part], 0) for part in ("_nodes", "_with_active_together"))
    size = first["pairs"].circuit.size
    print(f"\n{name}: floor {lowest:.2f} s, record {wholes[best]:.2f} s, {size} edges")
    for title in PARTS.values():
        print(f"  {title:<32}{parts[best].get(title, 0) / lowest:6.2f} x")
    rest = wholes[best] - sum(parts[best].values())
    print(f"  {'the rest':<32}{rest / lowest:6.2f} x")
    print(f"  {'whole without exact effects':<32}{(wholes[best] - effects) / lowest:6.2f} x")
    print(f"  {'whole':<32}{wholes[best] / lowest:6.2f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--pairs", type=Path)
    options = parser.parse_args()
    if options.model:
        model = AutoModelForCausalLM.from_pretrained(options.model, dtype="float32").eval()
        tokenizer = AutoTokenizer.from_pretrained(options.model)
        given = options.pairs and PromptPairs.read(options.pairs, tokenizer)
        compare(options.model.name, model, given or sums(tokenizer), options.repeats)
        return
    tiny = AutoModelForCausalLM.from_pretrained(base_model(0), dtype="float32").eval()
    tokenizer = AutoTokenizer.from_pretrained(base_model(0))
    job = config.load("grpo", ["--config", "recipes/tiny/grpo.yaml"], False)
    pairs = contrasts.build(job, tokenizer, lambda: tiny)["cue"]
    compare("tiny world", tiny, pairs, options.repeats)
    compare("8 x 8 x 512", build(BASE, "cpu"), pairs_for(BASE), options.repeats)


if __name__ == "__main__":
    main()
