"""A task is one object: its rows for GRPO and for SFT, prompt pairs, rewards and grading.

To add one, write it in a file beside this one and enter it in `TASKS` of `train/tasks/registry.py`;
its name there is what a recipe's `dataset_name` says, and `track_contrasts` and `reward_funcs` may
name what it brings:

    class Echo(Task):
        contrasts, rewards = ("letter",), {"echo_reward": echo_reward}

        def for_grpo(self, split):
            return Dataset.from_list([{"prompt": question(x), "answer": x} for x in LETTERS])

        def for_sft(self, split):
            return Dataset.from_list([{"messages": chat(x, x)} for x in LETTERS])

        def pairs(self, contrast, tokenizer, model):
            for sides in itertools.permutations(LETTERS, 2):
                yield pair_at_first_difference(
                    tokenizer, *((chat_prompt(tokenizer, x), x) for x in sides)
                )

        def right(self, completion, answer):
            return completion == answer
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from datasets import Dataset

from tracking.pairs.text import Dropped, Pair
from train.config import Job

SPARE = 8  # problems looked at for each prompt pair that is wanted


class Task(ABC):
    """What a job trains a model on, and what it is tracked by.

    contrasts: the names that its prompt pairs may be asked for by
    rewards: TRL reward functions by the names that recipes give them
    """

    contrasts: ClassVar[tuple[str, ...]] = ()
    rewards: ClassVar[Mapping[str, Callable[..., list[float]]]] = {}

    def __init__(self, job: Job) -> None:
        self.job = job

    @abstractmethod
    def for_grpo(self, split: str) -> Dataset:
        """Rows with a conversational `prompt`, and `answer` or what else the rewards read.

        Raises `BadInput` for a split that there is not.
        """

    @abstractmethod
    def for_sft(self, split: str) -> Dataset:
        """Rows with `messages`, or with `prompt` and `completion`, or `text`; `BadInput` as
        above."""

    @abstractmethod
    def pairs(
        self, contrast: str, tokenizer: Any, model: Callable[[], Any]
    ) -> Iterable[Pair | Dropped]:
        """Candidates for the prompt pairs of one of `contrasts`, from problems of their own order,
        or why there is none. `model()` loads the model, for pairs that need what it writes."""

    @abstractmethod
    def right(self, completion: str, answer: str) -> bool:
        """Whether a completion gives the right answer."""
