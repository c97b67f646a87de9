"""Models of the tiny world, their prompt pairs, and what is done to their weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from scripts.control.control import REPO
from scripts.control.crossed import crossed, pairs_of
from tracking.pairs.prompt_pairs import PromptPairs
from train import config
from train.data.contrasts import build
from train.tiny.base import base_model


@dataclass(frozen=True)
class Subject:
    """A model that has a behaviour, and pairs that show it."""

    folder: Path | None  # of a model of the tiny world; None: the one that is set by hand
    contrast: str = "operand"

    @property
    def model(self) -> Any:
        """The model anew."""
        return crossed(0) if self.folder is None else loaded(self.folder)

    def samples(self, *sizes: int, seed: int = 0) -> list[PromptPairs]:
        """Disjoint random samples of pairs."""
        pairs = pairs_of(sum(sizes), seed) if self.folder is None else tiny_pairs(self.contrast)
        order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))
        return [pairs[some] for some in order[: sum(sizes)].split(sizes)]


def loaded(folder: Path) -> Any:
    """A saved model, in float32."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@cache
def tiny_pairs(contrast: str, count: int = 1024, seed: int = 0) -> PromptPairs:
    """Different prompt pairs of the tiny task. The more there are, the rarer are short problems, of
    which there are few."""
    keys = {"config": REPO / "recipes" / "tiny" / "grpo.yaml", "track_contrasts": contrast,
            "track_pairs_count": count, "seed": seed}  # fmt: skip
    words = [word for key, value in keys.items() for word in (f"--{key}", str(value))]
    tokenizer = AutoTokenizer.from_pretrained(base_model())
    return build(config.load("grpo", words, False), tokenizer, lambda: None)[contrast]


def write_of(model: Any, node: str) -> Tensor:
    """The weights, a view, by which a head or an MLP writes to the residual stream."""
    layer, _, head = node[1:].partition("H")
    block = model.model.layers[int(layer)]
    if not head:
        return block.mlp.down_proj.weight.data
    size = block.self_attn.head_dim
    return block.self_attn.o_proj.weight.data[:, int(head) * size : (int(head) + 1) * size]


@contextmanager
def scaled(weights: Tensor, factor: float) -> Iterator[None]:
    """Within it `weights` are so many times as large."""
    kept = weights.clone()
    weights *= factor
    try:
        yield
    finally:
        weights.copy_(kept)


def add_noise(model: nn.Module, share: float, spreads: dict[str, float], seed: int) -> None:
    """Add Gaussian noise to every matrix, of `share` of its own spread."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if name in spreads:
                drawn = torch.randn(weights.shape, generator=generator)
                weights += share * spreads[name] * drawn


def spreads(model: nn.Module) -> dict[str, float]:
    """The standard deviation of every matrix, by its name."""
    return {
        name: float(one.detach().std()) for name, one in model.named_parameters() if one.ndim == 2
    }
