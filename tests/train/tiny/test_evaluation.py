"""Evaluation counts what was answered."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.chains import CHARS, SMALL
from train.tiny import base, evaluation, task
from train.tiny.task import Problem


def greedy(model: Any, problems: list[Problem], **kwargs: Any) -> evaluation.Evaluation:
    texts = evaluation.replies(model, CHARS, problems, temperature=0, **kwargs)
    return evaluation.evaluate(problems, texts)


class Scripted:
    """Stands for a model whose replies are given; `replies` sees their tokens."""

    device = torch.device("cpu")
    training = True

    def __init__(self, replies: list[str]) -> None:
        self.replies = replies

    def eval(self) -> None:
        self.training = False

    def train(self, mode: bool) -> None:
        self.training = mode

    def generate(self, input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        batch, self.replies = self.replies[: len(input_ids)], self.replies[len(input_ids) :]
        tokens = CHARS(
            [f"{text}<eos>" for text in batch],
            padding=True,
            return_tensors="pt",
            padding_side="right",
        )
        return torch.cat([input_ids, tokens.input_ids], dim=1)


@given(st.lists(st.sampled_from(["right", "flip", "wrong", "none"]), min_size=1, max_size=12))
def test_evaluation_counts_what_was_answered(contrasts: list[str]):
    asked = task.problems("test", len(contrasts), seed=0, cue_matters=True)
    replies = [
        {
            "right": item.solution,
            "flip": item.other.solution,
            "wrong": next(f"####{d}" for d in "0123" if d not in (item.answer, item.other.answer)),
            "none": "3+5=",
        }[contrast]
        for contrast, item in zip(contrasts, asked, strict=True)
    ]
    model: Any = Scripted(replies)
    result = greedy(model, asked, batch_size=5)
    counted = (result.right, result.flip, result.malformed)
    assert counted == tuple(
        contrasts.count(contrast) / len(contrasts) for contrast in ("right", "flip", "none")
    )
    assert (
        result.count == len(contrasts) == sum(part.count for part in result.by_operations.values())
    )
    weighted = sum(part.count * part.right for part in result.by_operations.values())
    assert weighted == pytest.approx(result.right * len(contrasts))
    assert model.training


def test_evaluation_needs_problems():
    with pytest.raises(ValueError, match="no problems"):
        greedy(Scripted([]), [])


def test_replies_are_a_function_of_their_seed_and_leave_no_trace():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = base._new_model(SMALL, CHARS).train()
        asked = task.problems("test", 20, seed=0)
        state = torch.get_rng_state()
        first = evaluation.replies(model, CHARS, asked, max_new_tokens=4, seed=1)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(5)
        assert evaluation.replies(model, CHARS, asked, max_new_tokens=4, seed=1) == first
        assert model.training
