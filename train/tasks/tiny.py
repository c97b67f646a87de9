"""The tiny task as jobs know it; `train/tiny` has its problems, its tokenizer and its base model.

prompt `-(3+5*2)`, completion `3+5=8;8*2=6;-6=4;####4`, answer `4`
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, cast

from datasets import Dataset

from tracking.errors import BadInput
from tracking.pairs.problems import chat_prompt
from tracking.pairs.text import Dropped, Pair, pair_at_first_difference
from train.tasks.task import SPARE, Task
from train.tiny.task import (
    Problem,
    Split,
    answer_of,
    dataset,
    problems,
    sft_dataset,
    tiny_answer_reward,
)

ROWS = 4096


class Tiny(Task):
    """Cued chain arithmetic modulo 10, drawn from the job's seed."""

    contrasts = ("cue", "operand")
    rewards: ClassVar = {"tiny_answer_reward": tiny_answer_reward}

    def for_grpo(self, split: str) -> Dataset:
        """Rows with `prompt`, `solution`, `answer` and `operations`."""
        return dataset(_split(split), self.job.ours.dataset_size or ROWS, self.job.training.seed)

    def for_sft(self, split: str) -> Dataset:
        """Rows with `messages`: the same problems, worked out."""
        return sft_dataset(
            _split(split), self.job.ours.dataset_size or ROWS, self.job.training.seed
        )

    def pairs(
        self, contrast: str, tokenizer: Any, model: Callable[[], Any]
    ) -> Iterator[Pair | Dropped]:
        """`cue`: the same expression under the other cue; `operand`: the same cue with one operand
        changed. Of the test split, no problem twice."""
        count = SPARE * self.job.ours.track_pairs_count
        drawn = problems("test", count, self.job.training.seed, cue_matters=True)
        for problem in dict.fromkeys(drawn):
            other = problem.other if contrast == "cue" else _other_operand(problem)
            sides = (
                (chat_prompt(tokenizer, side.prompt), side.solution) for side in (problem, other)
            )
            yield pair_at_first_difference(tokenizer, *sides)

    def right(self, completion: str, answer: str) -> bool:
        """Whether it ends in exactly one `####d`, d being the answer."""
        return answer_of(completion) == answer


def _other_operand(problem: Problem) -> Problem:
    """The problem with one operand changed; which and to what is drawn from the problem itself."""
    draw = random.Random(problem.prompt)
    place = draw.randrange(0, len(problem.expression), 2)
    digits = string.digits.replace(problem.expression[place], "")
    changed = problem.expression[:place] + draw.choice(digits) + problem.expression[place + 1 :]
    return Problem(changed, problem.cue)


def _split(split: str) -> Split:
    if split not in ("train", "test"):
        raise BadInput(f"the tiny data set has the splits train and test, not {split!r}")
    return cast(Split, split)
