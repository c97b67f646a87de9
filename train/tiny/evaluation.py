"""How well a model does the tiny task, and what kind of mistakes it makes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from train.tiny.base import random_state
from train.tiny.task import Problem, answer_of

# --------------------------------------------------------------------------------------------------
# Evaluation


@dataclass(frozen=True)
class Evaluation:
    """Shares, in [0, 1], of `count` answers; `by_operations` has the same for each length."""

    count: int
    right: float
    flip: float  # the other cue's answer: calculated right, cue unread
    malformed: float  # no answer to be read
    by_operations: dict[int, Evaluation] = field(default_factory=dict)


def evaluate(problems: Sequence[Problem], texts: Sequence[str]) -> Evaluation:
    """Grade a reply to each problem. Raises ValueError without problems."""
    if not problems:
        raise ValueError("no problems to evaluate on")
    graded = [(problem, answer_of(text)) for problem, text in zip(problems, texts, strict=True)]
    lengths = sorted({problem.operations for problem in problems})
    return _shares(
        graded,
        {n: _shares([pair for pair in graded if pair[0].operations == n], {}) for n in lengths},
    )


@torch.no_grad()
def replies(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    problems: Sequence[Problem],
    max_new_tokens: int = 36,
    temperature: float = 1.0,
    seed: int = 0,
    batch_size: int = 256,
) -> list[str]:
    """The model's reply to each problem; temperature 0 decodes greedily.

    Leaves the model's mode and the caller's random state as they were.
    """
    texts: list[str] = []
    training = model.training
    model.eval()
    try:
        with random_state(seed, model.device):
            for start in range(0, len(problems), batch_size):
                batch = problems[start : start + batch_size]
                texts += _batch(model, tokenizer, batch, max_new_tokens, temperature)
    finally:
        model.train(training)
    return texts


def _batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    batch: Sequence[Problem],
    max_new_tokens: int,
    temperature: float,
) -> list[str]:
    inputs: Any = tokenizer.apply_chat_template(
        [[{"role": "user", "content": problem.prompt}] for problem in batch],
        add_generation_prompt=True,
        padding=True,
        return_dict=True,
        return_tensors="pt",
    )
    # All of the distribution, whatever the model's own generation config says.
    sampling = {"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
    generate: Any = model.generate  # which pyright takes for a tensor
    tokens = generate(
        **inputs.to(model.device),
        max_new_tokens=max_new_tokens,
        do_sample=temperature > 0,
        **sampling,
    )
    return tokenizer.batch_decode(tokens[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)


def _shares(
    graded: Sequence[tuple[Problem, str | None]], by_operations: dict[int, Evaluation]
) -> Evaluation:
    def share(hits: Iterable[bool]) -> float:
        return sum(hits) / len(graded)

    return Evaluation(
        count=len(graded),
        right=share(answer == problem.answer for problem, answer in graded),
        flip=share(
            problem.cue_matters and answer == problem.other.answer for problem, answer in graded
        ),
        malformed=share(answer is None for _, answer in graded),
        by_operations=by_operations,
    )
