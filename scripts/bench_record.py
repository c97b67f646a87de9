"""Time of a whole record against its floor, by part, measured in the same process and run.

    python -m scripts.bench_record [--repeats 3] [--model FOLDER --pairs PAIRS.jsonl]

The floor is 8 bare forward and backward passes of the model on the record's pairs, with gradients
to activations only. What is timed is a run's second record, of the same weights: the first also
searches for the run's size. A model of your own is timed in the place of the built-in ones.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from scripts import bench_attribution as bare
from tracking import PromptPairs, contrast
from tracking.analysis import analyse
from tracking.settings import Settings
from train import config
from train.data import contrasts
from train.tiny.base import base_model

STEPS = 8
BATCH = 64
PARTS = {
    "attribute": "attribution",
    "curve_of": "curve over sizes",
    "_circuit": "circuit, ends, random circuits",
    "_wiring": "wiring kept",
    "_stability": "resamples and halves",
    "_nodes": "exact effects",
    "_with_active_together": "active nodes together",
    "_behaviour": "behaviour",
    "roles": "roles",
}


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Within it the seconds that each part of a contrast's analysis takes, by its name."""
    seconds: dict[str, float] = defaultdict(float)
    before = {name: getattr(contrast, name) for name in PARTS}

    def wrapped(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **more: Any) -> Any:
            begin = time.perf_counter()
            try:
                return call(*args, **more)
            finally:
                seconds[name] += time.perf_counter() - begin

        return run

    try:
        for name, call in before.items():
            setattr(contrast, name, wrapped(name, call))
        yield seconds
    finally:
        for name, call in before.items():
            setattr(contrast, name, call)


def floor(model: Any, pairs: PromptPairs) -> float:
    """Seconds of the bare passes, in batches of the same size."""
    assert pairs.labels is not None
    begin = time.perf_counter()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for rows in torch.arange(len(pairs)).split(BATCH):
        batch = pairs[rows].to(model.device)
        embedded = model.get_input_embeddings()(batch.clean)
        for _ in range(STEPS):
            start = embedded.detach().requires_grad_()
            out = model.model(inputs_embeds=start, attention_mask=batch.attention_mask,
                              use_cache=False).last_hidden_state  # fmt: skip
            logits = model.lm_head(out[:, -1:]).float()
            right = logits.gather(-1, pairs.labels[rows][:, None, :1].to(logits.device))
            torch.autograd.grad(right.sum(), start)
    return time.perf_counter() - begin


def compare(name: str, model: Any, pairs: PromptPairs, repeats: int) -> None:
    """Print the fastest of the repeats, by part, over the fastest floor."""
    settings = Settings(batch_size=BATCH)
    first = analyse(model, {"pairs": pairs}, settings)
    before = {"pairs": contrast.Before.of([first["pairs"]], settings.rank)}
    floors, wholes, parts = [], [], []
    for _ in range(repeats):
        floors.append(floor(model, pairs))
        with timed() as seconds:
            begin = time.perf_counter()
            analyse(model, {"pairs": pairs}, settings, before=before)
            wholes.append(time.perf_counter() - begin)
        parts.append(dict(seconds))
    best, lowest = wholes.index(min(wholes)), min(floors)
    effects = sum(parts[best].get(part, 0) for part in ("_nodes", "_with_active_together"))
    size = first["pairs"].circuit.size
    print(f"\n{name}: floor {lowest:.2f} s, record {wholes[best]:.2f} s, {size} edges")
    for part, title in PARTS.items():
        print(f"  {title:<32}{parts[best].get(part, 0) / lowest:6.2f} x")
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
        model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(options.model)
        compare(
            options.model.name, model, PromptPairs.read(options.pairs, tokenizer), options.repeats
        )
        return
    tiny = AutoModelForCausalLM.from_pretrained(base_model(0), dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(base_model(0))
    job = config.load("grpo", ["--config", "recipes/tiny/grpo.yaml"], False)
    pairs = contrasts.build(job, tokenizer, lambda: tiny)["cue"]
    compare("tiny world", tiny, pairs, options.repeats)
    shape = bare.BASE
    compare("8 x 8 x 512", bare.build(shape, "cpu"), bare.pairs_for(shape), options.repeats)


if __name__ == "__main__":
    main()
