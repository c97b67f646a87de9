"""Random decoders of a given shape, and random prompts for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from tracking import PromptPairs


@dataclass(frozen=True)
class Shape:
    """A random Qwen2 and its pairs."""

    name: str
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    width: int
    mlp: int
    vocabulary: int
    pairs: int
    tokens: int
    steps: int = 5
    batch_size: int = 4
    dtype: torch.dtype = torch.float32


BASE = Shape("base", 8, 8, 2, 64, 512, 1408, 1024, pairs=4, tokens=128)
CPU = (
    BASE,
    replace(BASE, name="longer", tokens=384, pairs=2),
    replace(BASE, name="wider", layers=4, heads=16, kv_heads=4, width=1024, mlp=2816),
)
QWEN = Shape(
    "Qwen2.5-Math-1.5B", 28, 12, 2, 128, 1536, 8960, 151_936,
    pairs=64, tokens=256, batch_size=16, dtype=torch.bfloat16,
)  # fmt: skip


def build(shape: Shape, device: str) -> Qwen2ForCausalLM:
    """A random model of this shape, tied embeddings."""
    config = Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        tie_word_embeddings=True,
    )
    assert config.hidden_size == shape.heads * shape.head_dim
    torch.manual_seed(0)
    with torch.device(device):
        model: Any = Qwen2ForCausalLM(config).eval()
    return model.to(dtype=shape.dtype)


def pairs_for(shape: Shape) -> PromptPairs:
    """Random prompts that differ in one token."""
    generator = torch.Generator().manual_seed(0)
    size = (shape.pairs, shape.tokens)
    clean = torch.randint(shape.vocabulary, size, generator=generator)
    corrupted = clean.clone()
    corrupted[:, 3] = (clean[:, 3] + 1) % shape.vocabulary
    labels = torch.randint(shape.vocabulary, (shape.pairs, 2), generator=generator)
    return PromptPairs(clean, corrupted, labels=labels)
