"""Rewards by name: TRL's own, open-r1's tag count, and those that the tasks bring."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from trl.rewards import (
    accuracy_reward,
    get_cosine_scaled_reward,
    get_repetition_penalty_reward,
    get_soft_overlong_punishment,
    reasoning_accuracy_reward,
    think_format_reward,
)

from tracking.errors import BadInput
from train.rewards.scoring import Scorer
from train.tasks.registry import TASKS

Reward = Callable[..., list[float | None]]
TAGS = ("<think>\n", "\n</think>\n", "\n<answer>\n", "\n</answer>")


def tag_count_reward(completions: Sequence[Any], **kwargs: Any) -> list[float]:
    """A quarter for each of the four tags of `<think>...</think><answer>...</answer>` that stands
    in the completion exactly once, on a line of its own (open-r1's third reward)."""
    texts = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
    return [sum(text.count(tag) == 1 for tag in TAGS) / len(TAGS) for text in texts]


def registered(completion_length: int) -> dict[str, Callable]:
    """All rewards that a recipe may name; those that need a length take the run's."""
    return {
        "accuracy_reward": accuracy_reward,
        "reasoning_accuracy_reward": reasoning_accuracy_reward,
        "think_format_reward": think_format_reward,
        "tag_count_reward": tag_count_reward,
        **{name: reward for task in TASKS.values() for name, reward in task.rewards.items()},
        "cosine_scaled_reward": get_cosine_scaled_reward(max_len=completion_length),
        "repetition_penalty_reward": get_repetition_penalty_reward(ngram_size=3, max_penalty=-1.0),
        "soft_overlong_punishment": get_soft_overlong_punishment(
            max_completion_len=completion_length, soft_punish_cache=max(1, completion_length // 5)
        ),
    }


def resolve(names: Sequence[str], completion_length: int) -> list[Callable]:
    """The rewards of these names, or at these dotted paths; `BadInput` names an unknown one."""
    known = registered(completion_length)
    functions = [known[name] if name in known else _imported(name, known) for name in names]
    for name, function in zip(names, functions, strict=True):
        if inspect.iscoroutinefunction(function) or not callable(function):
            raise BadInput(f"reward {name!r} must be a plain function")
    return functions


def guarded(names: Sequence[str], completion_length: int, seconds: float) -> list[Scorer]:
    """The same, each in a process of its own with a time limit; `BadInput` as `resolve`."""
    scorers = []
    for name, function in zip(names, resolve(names, completion_length), strict=True):
        make = partial(_resolved, name, completion_length)
        scorers.append(Scorer(function.__name__, make, seconds))
    return scorers


def _resolved(name: str, completion_length: int) -> Callable:
    return resolve([name], completion_length)[0]


def _imported(name: str, known: dict[str, Callable]) -> Callable:
    module, dot, function = name.rpartition(".")
    if not dot:
        raise BadInput(f"unknown reward {name!r}; one of {', '.join(known)}, or a dotted path")
    sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), function)
    except Exception as error:  # of the module, whatever it is
        raise BadInput(f"reward {name!r} cannot be imported: {error}") from None
    finally:
        sys.path.pop(0)
