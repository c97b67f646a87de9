"""What interventions add to the time of generation, in the same process and run.

    OMP_NUM_THREADS=1 python -m scripts.bench_interventions [--repeats 41] [--tokens 48]

Greedy answers of a fixed length, of the tiny world's base and, where it is there, of SmolLM2. Every
repeat generates once in each way, in random order; a cost is the median over repeats of the CPU
time within it over that without. `the same again` is no intervention a second time: the noise.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from random import Random
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tracking import BadInput, Reference, intervene
from tracking.model.decoder import Decoder
from train.smollm2 import smollm2
from train.tiny.base import base_model

ROWS = 20
Ways = dict[str, Callable[[], AbstractContextManager]]


def ways(model: Any, inputs: dict[str, Any]) -> Ways:
    """No intervention, twice; one on all rows alike, and another in each row."""
    heads, random = Decoder.of(model).graph.head_names, Random(0)
    sets = [dict.fromkeys(random.sample(heads, 5), 0.0) for _ in range(ROWS)]
    one = {heads[len(heads) // 2]: 0.5}
    mean = Reference.mean(model, **inputs)
    placed = Reference.resample(model, **inputs, per_position=True)
    return {
        "nothing": nullcontext,
        "the same again": nullcontext,
        "one head scaled": lambda: intervene(model, one),
        "one head at its mean": lambda: intervene(model, one, "mean", mean),
        "20 sets of 5 heads off, one a row": lambda: intervene(model, sets),
        "20 sets at their means": lambda: intervene(model, sets, "mean", mean),
        "20 sets resampled by position": lambda: intervene(model, sets, "resample", placed),
    }


def compare(name: str, folder: Path, prompt: str, repeats: int, tokens: int) -> None:
    """Print what each way costs over `nothing`."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"].repeat(ROWS, 1)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    length = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False}
    each = ways(model, inputs)
    seconds: dict[str, list[float]] = {way: [] for way in each}
    for repeat in range(repeats + 1):  # the first warms up
        for way in Random(repeat).sample(list(each), len(each)):
            begin = time.process_time()
            with each[way]():
                model.generate(**inputs, **length, pad_token_id=0)
            seconds[way].append(time.process_time() - begin)
    plain = seconds["nothing"][1:]
    print(f"\n{name}: {ROWS} rows, {tokens} tokens, {statistics.median(plain):.2f} s")
    for way, times in seconds.items():
        ratios = sorted(one / other for one, other in zip(times[1:], plain, strict=True))
        low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        print(f"  {way:<36}{statistics.median(ratios):.3f} x  ({low:.3f} to {high:.3f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=41)
    parser.add_argument("--tokens", type=int, default=48)
    options = parser.parse_args()
    compare("tiny world", base_model(0), "-(3+5*2)", options.repeats, options.tokens)
    try:
        folder = smollm2()
    except BadInput as error:
        print(f"\nSmolLM2: {error}")
        return
    few = max(options.repeats // 4, 1), max(options.tokens // 6, 2)
    compare("SmolLM2-135M", folder, "17 + 25 = ", *few)


if __name__ == "__main__":
    main()
