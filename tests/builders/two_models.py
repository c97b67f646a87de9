"""Two models of one shape: a base, and what a training might have made of it."""

import copy
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from tests.builders.planted import COPY, HEAD_DIM, TOKENS, pairs
from tracking.comparison.shift.texts import Text, Texts

WRITES = slice(int(COPY[-1]) * HEAD_DIM, (int(COPY[-1]) + 1) * HEAD_DIM)  # of the planted head


def changed(base: Any, seed: int, size: float = 0.3, only: Collection[str] = ()) -> Any:
    """A copy of `base` with noise on its weights, as large as `size` of each; `only` on those whose
    names begin so or hold one of these words."""
    copied = copy.deepcopy(base).eval()
    for hooked in copied.modules():
        hooked._forward_hooks.clear()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in copied.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if not only or any(word in name for word in only):
            parameter.data += size * noise * parameter.data.std()
    return copied


def scaled(planted: Any, factor: float) -> Any:
    """A copy of a planted model whose head writes so many times as much."""
    trained = copy.deepcopy(planted)
    trained.model.layers[1].self_attn.o_proj.weight.data[:, WRITES] *= factor
    return trained


def miscopying(planted: Any) -> Any:
    """A copy of a planted model whose head writes another of the six tokens than it reads."""
    trained = copy.deepcopy(planted)
    write = trained.model.layers[1].self_attn.o_proj.weight.data[TOKENS : 2 * TOKENS, WRITES]
    write[:6] = write[:6].roll(1, 0).clone()
    return trained


def misreading(planted: Any) -> Any:
    """A copy of a planted model that takes each of the six tokens for another."""
    trained = copy.deepcopy(planted)
    first = trained.model.embed_tokens.weight.data[:6]
    first.copy_(first.roll(1, 0))
    return trained


def planted_texts(prompts: int = 12) -> Texts:
    """A text of three and five tokens for each prompt of a planted model."""
    rows = enumerate(pairs(prompts).clean.tolist())
    return Texts.of([Text(f"{i}", "base", row[:3], row[3:]) for i, row in rows])


def write_completions(run: Path, questions: Sequence[str], step: int = 1, system: str = "") -> None:
    """A completions file as TRL logs it, a chat of one question a row."""
    begin = [{"role": "system", "content": system}] if system else []
    chats = [[*begin, {"role": "user", "content": question}] for question in questions]
    rows = [{"step": step, "prompt": one, "completion": "", "advantage": 0.0} for one in chats]
    (run / "completions").mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(run / "completions" / f"completions_{step:05d}.parquet")
