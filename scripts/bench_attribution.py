"""Time and memory of edge attribution against its floor, measured in the same process and run.

    python -m scripts.bench_attribution [--repeats 5] [--growth]

The floor is what no method can do without: one clean and one corrupted forward pass and m forward
and backward passes of the bare model on the same tokens, with gradients to activations only. Floor
and ours are timed in turns and the fastest of each counts, so that a busy machine harms both alike.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from transformers import Qwen2ForCausalLM

from scripts.bench.shapes import BASE, CPU, QWEN, Shape, build, pairs_for
from tracking import PromptPairs, attribute
from tracking.attribution.metrics import neg_logit_diff
from tracking.model.decoder import Decoder


def floor(model: Qwen2ForCausalLM, pairs: PromptPairs, shape: Shape) -> None:
    """The bare passes, in the same batches."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    device = model.device
    for rows in torch.arange(len(pairs)).split(shape.batch_size):
        batch = pairs[rows].to(device)
        clean, corrupted = (model.model.embed_tokens(ids) for ids in (batch.clean, batch.corrupted))
        with torch.no_grad():
            clean_logits, _ = (last_logits(model, x) for x in (clean, corrupted))
        for step in range(shape.steps):
            begin = torch.lerp(corrupted, clean, step / shape.steps).requires_grad_()
            loss = neg_logit_diff(last_logits(model, begin), clean_logits, batch).sum()
            torch.autograd.grad(loss, begin)


def last_logits(model: Qwen2ForCausalLM, embeddings: torch.Tensor) -> torch.Tensor:
    """Float32 [pair, 1, vocabulary] of the bare model."""
    stream = model.model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
    return model.lm_head(stream[:, -1:]).float()


def ours(model: Qwen2ForCausalLM, pairs: PromptPairs, shape: Shape) -> None:
    attribute(model, pairs, metric="neg_logit_diff", steps=shape.steps, batch_size=shape.batch_size)


def seconds(run: Callable[[], None], device: str) -> float:
    """How long it takes."""
    begin = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def peak_gb(run: Callable[[], None], device: str) -> float:
    """Peak of the memory that tensors take, above the start, in GB."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 1e9
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        run()
    assert profile.profiler is not None and profile.profiler.kineto_results is not None
    events: list[Any] = profile.profiler.kineto_results.events()
    events = [event for event in events if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in events)) / 1e9


def compare(shape: Shape, repeats: int, device: str) -> tuple[float, float]:
    """Print one row; seconds of the floor and of ours."""
    model, pairs = build(shape, device), pairs_for(shape)
    graph = Decoder.of(model).graph
    batch = min(shape.batch_size, shape.pairs)
    differences = batch * shape.tokens * len(graph.sources) * shape.width * 4 / 1e9
    bare, full = partial(floor, model, pairs, shape), partial(ours, model, pairs, shape)
    times = [(seconds(bare, device), seconds(full, device)) for _ in range(repeats)]
    best_floor, best = (min(column) for column in zip(*times, strict=True))
    memory_floor, memory = peak_gb(bare, device), peak_gb(full, device)
    print(
        f"{shape.name:<18} {best_floor:8.3f} {best:8.3f} {best / best_floor:6.2f}"
        f" {memory_floor:9.3f} {memory:8.3f} {differences:8.3f}"
        f" {(memory - memory_floor) / differences:8.2f}"
    )
    return best_floor, best


def growth(shape: Shape, repeats: int, device: str) -> None:
    """How time grows when one dimension doubles: 2 is linear."""
    print("\ndoubled    floor x   ours x")
    small = replace(shape, name="small", layers=4, tokens=64, pairs=4)
    for field in ("pairs", "tokens", "layers", "steps"):
        times = []
        for factor in (1, 2):
            size = replace(small, **{field: factor * getattr(small, field)})
            model, pairs = build(size, device), pairs_for(size)
            bare, full = partial(floor, model, pairs, size), partial(ours, model, pairs, size)
            pairs = [(seconds(bare, device), seconds(full, device)) for _ in range(repeats)]
            times.append([min(column) for column in zip(*pairs, strict=True)])
        (floor_one, ours_one), (floor_two, ours_two) = times
        print(f"{field:<10} {floor_two / floor_one:7.2f} {ours_two / ours_one:8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--growth", action="store_true", help="also print how time grows")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"{device}, {torch.get_num_threads()} threads; memory is the peak above the start, GB")
    print(
        f"{'size':<18} {'floor s':>8} {'ours s':>8} {'ratio':>6}"
        f" {'floor GB':>9} {'ours GB':>8} {'diffs GB':>8} {'above/diffs':>8}"
    )
    for shape in (*CPU, QWEN) if device == "cuda" else CPU:
        compare(shape, options.repeats, device)
    if options.growth:
        growth(BASE, options.repeats, device)


if __name__ == "__main__":
    main()
