"""A model's own solutions, for data that has no worked ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

# A model's own solutions


def greedy_solutions(
    model: Any, tokenizer: Any, prompts: Sequence[str], max_new_tokens: int, batch_size: int
) -> list[str]:
    """What the model answers to each prompt, greedily, without special tokens.

    The prompts are texts with the chat template applied. The model's mode and the state of every
    random generator are afterwards what they were.
    """
    solutions: list[str] = []
    with undisturbed(model), torch.no_grad():
        for start in range(0, len(prompts), batch_size):
            batch = tokenizer(
                list(prompts[start : start + batch_size]),
                add_special_tokens=False,
                padding=True,
                padding_side="left",
                return_tensors="pt",
            ).to(model.device)
            written = model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                max_new_tokens=max_new_tokens,
                pad_token_id=tokenizer.pad_token_id,
                **GREEDY,
            )
            new = written[:, batch["input_ids"].shape[1] :]
            solutions += tokenizer.batch_decode(new, skip_special_tokens=True)
    return solutions


GREEDY: dict[str, Any] = {
    "do_sample": False,
    "num_beams": 1,
    "use_cache": True,
    # A model's own sampling settings would only draw warnings here.
    "temperature": None,
    "top_p": None,
    "top_k": None,
}


@contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Modifies the model for its time: evaluation mode; then every module's own mode is back, and
    the random generators' states."""
    modes = [(module, module.training) for module in model.modules()]
    devices = [model.device] if model.device.type == "cuda" else []
    model.eval()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        for module, training in modes:
            module.training = training
