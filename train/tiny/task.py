"""The tiny task: cued chain arithmetic modulo 10, its problems, solutions, data and reward."""

from __future__ import annotations

import hashlib
import operator
import random
import re
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from datasets import Dataset

Split = Literal["train", "test"]

CUES = "+-"
OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}
EXPRESSION = re.compile(r"[0-9](?:[-+*][0-9])+")
ANSWER = re.compile(r"[^#]*####([0-9])")


# --------------------------------------------------------------------------------------------------
# The task


def solution(expression: str, cue: str) -> str:
    """The worked solution: one step an operation, one for a `-` cue, then `####` and the answer.

    Raises ValueError for anything but digits joined by `+ - *` and a cue of `+` or `-`.
    """
    if not EXPRESSION.fullmatch(expression) or cue not in tuple(CUES):
        raise ValueError(f"not a cued chain: cue {cue!r}, expression {expression!r}")
    return work_out(expression, cue, slip=lambda result: result)


def work_out(expression: str, cue: str, slip: Callable[[int], int]) -> str:
    """As `solution`; `slip` turns the right result of an operation into the one written down."""
    value, text = int(expression[0]), ""
    for operation, operand in zip(expression[1::2], expression[2::2], strict=True):
        result = slip(OPERATIONS[operation](value, int(operand)) % 10)
        text += f"{value}{operation}{operand}={result};"
        value = result
    if cue == "-":
        text += f"-{value}={-value % 10};"
        value = -value % 10
    return f"{text}####{value}"


def answer_of(text: str) -> str | None:
    """The digit a completion answers with, or None unless it ends in exactly one `####d`."""
    match = ANSWER.fullmatch(text)
    return match[1] if match else None


@dataclass(frozen=True)
class Problem:
    """An expression such as `3+5*2` under a cue, `+` or `-`."""

    expression: str
    cue: str

    @property
    def prompt(self) -> str:
        """What the user says: `-(3+5*2)`."""
        return f"{self.cue}({self.expression})"

    @property
    def solution(self) -> str:
        """What the assistant should say, worked out."""
        return solution(self.expression, self.cue)

    @property
    def answer(self) -> str:
        """The right answer, one digit."""
        return self.solution[-1]

    @property
    def operations(self) -> int:
        """How many operations the expression has: 1 is easy, 3 is hard."""
        return len(self.expression) // 2

    @property
    def other(self) -> Problem:
        """The same expression under the other cue."""
        return Problem(self.expression, "-" if self.cue == "+" else "+")

    @property
    def cue_matters(self) -> bool:
        """Whether the other cue has another answer (it has not for results 0 and 5)."""
        return self.answer != self.other.answer

    @property
    def held_out(self) -> bool:
        """Whether the expression, under either cue, belongs to the test split (one in eight)."""
        # Python's own hash() of a string differs from process to process.
        return hashlib.blake2b(self.expression.encode(), digest_size=1).digest()[0] % 8 == 0


def problems(
    split: Split,
    count: int,
    seed: int,
    weights: Sequence[float] = (1.0, 1.2, 1.2),
    cue_matters: bool = False,
) -> list[Problem]:
    """Draw `count` problems of a split, with replacement (there are only 300 of one operation).

    `weights` are those of one, two, ... operations. With `cue_matters`, only problems whose answer
    depends on the cue.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', not {split!r}")
    draws = draw(random.Random(seed), split, weights)
    kept = (problem for problem in draws if problem.cue_matters or not cue_matters)
    return [next(kept) for _ in range(count)]


def draw(rng: random.Random, split: Split, weights: Sequence[float]) -> Iterator[Problem]:
    """Problems of a split, without end."""
    lengths = range(1, len(weights) + 1)
    while True:
        length = rng.choices(lengths, weights)[0]
        links = (rng.choice("+-*") + rng.choice(string.digits) for _ in range(length))
        problem = Problem(rng.choice(string.digits) + "".join(links), rng.choice(CUES))
        if problem.held_out == (split == "test"):
            yield problem


def dataset(split: Split, count: int, seed: int) -> Dataset:
    """Rows for GRPO: `prompt` (conversational), `solution`, `answer` (str), `operations` (int).

    The test split holds only problems whose answer depends on the cue.
    """
    drawn = problems(split, count, seed, cue_matters=split == "test")
    return Dataset.from_dict(
        {
            "prompt": [[{"role": "user", "content": problem.prompt}] for problem in drawn],
            "solution": [problem.solution for problem in drawn],
            "answer": [problem.answer for problem in drawn],
            "operations": [problem.operations for problem in drawn],
        }
    )


def sft_dataset(split: Split, count: int, seed: int) -> Dataset:
    """Rows for SFT, the problems of `dataset`: `messages`, the prompt and its worked solution."""
    drawn = problems(split, count, seed, cue_matters=split == "test")
    return Dataset.from_dict({"messages": [chat(item.prompt, item.solution) for item in drawn]})


def chat(prompt: str, reply: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]


def tiny_answer_reward(
    completions: Sequence[Any], answer: Sequence[str], **kwargs: Any
) -> list[float]:
    """TRL reward: 1.0 where the completion's answer is the right one, else 0.0.

    Completions may be strings or conversations, of which the last message counts.
    """
    texts = [text if isinstance(text, str) else text[-1]["content"] for text in completions]
    return [float(answer_of(text) == right) for text, right in zip(texts, answer, strict=True)]
