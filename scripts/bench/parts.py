"""Time and memory of a whole record, part by part, and the floor that they are measured against."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tracking import contrast
from tracking.model.decoder import Decoder, embed, run
from tracking.pairs.prompt_pairs import PromptPairs

STEPS = 8
PARTS = {
    "scored": "both ends, attribution",
    "curve_of": "curve over sizes",
    "_size": "size of the run's circuits",
    "_behaviour": "behaviour",
    "_circuit": "circuit, ends, random circuits",
    "_stability": "resamples and halves",
    "_nodes": "exact effects",
    "roles": "roles",
    "_wiring": "wiring kept",
    "_with_active_together": "active nodes together",
}
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Cost:
    """What a piece of work took: seconds, and the most memory at any time of it, in GB: a GPU's
    tensors, or on the CPU all that the process has, the model in both."""

    seconds: float
    peak_gb: float


@contextmanager
def costing(device: torch.device, say: Callable[[Cost], None]) -> Iterator[None]:
    """Says what the work within it took, also where it fails."""
    gpu = device.type == "cuda"
    if gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    elif os.access(RESET, os.W_OK):
        RESET.write_text("5")  # the process's peak is counted from here
    begin = time.perf_counter()
    try:
        yield
    finally:
        if gpu:
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - begin
        peak = torch.cuda.max_memory_allocated(device) / 1e9 if gpu else _peak_gb()
        say(Cost(seconds, peak))


def _peak_gb() -> float:
    """The most memory that the process has had; NaN where the system does not say."""
    if not STATUS.is_file():
        return float("nan")
    lines = (line.split() for line in STATUS.read_text().splitlines())
    return next(int(words[1]) * 1024 / 1e9 for words in lines if words[0] == "VmHWM:")


@contextmanager
def by_part(device: torch.device, say: Callable[[str, Cost], None]) -> Iterator[None]:
    """Within it every part of a contrast's analysis says its title and what it took, as soon as it
    is done. No part runs within another."""
    before = {name: getattr(contrast, name) for name in PARTS}

    def costed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **more: Any) -> Any:
            with costing(device, lambda cost: say(PARTS[name], cost)):
                return call(*args, **more)

        return run

    try:
        for name, call in before.items():
            setattr(contrast, name, costed(name, call))
        yield
    finally:
        for name, call in before.items():
            setattr(contrast, name, call)


def floor(model: Any, pairs: PromptPairs, batch_size: int) -> None:
    """What no record can do without: `STEPS` bare forward and backward passes of a model on all
    pairs, which need labels, with gradients to activations only."""
    assert pairs.labels is not None
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    decoder = Decoder.of(model)
    for rows in torch.arange(len(pairs)).split(batch_size):
        batch = pairs[rows].to(decoder.device)
        embedded = embed(decoder, batch.clean)
        for _ in range(STEPS):
            start = embedded.detach().requires_grad_()
            out = run(decoder, start, batch.attention_mask)  # the backbone alone
            logits = decoder.lm_head(out[:, -1:]).float()
            right = logits.gather(-1, pairs.labels[rows][:, None, :1].to(logits.device))
            torch.autograd.grad(right.sum(), start)
