"""The problems of a benchmark: what is asked, and what an answer is graded against."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from train.run.console import say

Grade = Callable[..., list[float | None]]


@dataclass(frozen=True)
class Problem:
    """One problem of a benchmark.

    question: what the user says
    answer: the right one, "" where many are right
    place: of a reasoning-gym item, where it is drawn from again to be graded; else ""
    level: how hard its data set says it is, more is harder; None where it does not say
    """

    benchmark: str
    question: str
    answer: str
    place: str = ""
    level: int | None = None

    @cached_property
    def id(self) -> str:
        """A hash of question and answer: the same whatever file or place they come from."""
        text = f"{self.question}\0{self.answer}"
        return hashlib.blake2b(text.encode(), digest_size=8).digest().hex()


@dataclass(frozen=True)
class Benchmark:
    """Problems under a name, no question twice, and how completions are graded.

    `grade(completions, answer, place, cut_off, log_extra)` is called like a TRL reward: 1 right,
    0 wrong, None where it cannot say; it logs what it read as the answer as `extracted`.
    """

    name: str
    problems: tuple[Problem, ...]
    grade: Grade
    source: str  # where they come from, for people


def each_once(name: str, problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """The problems without repeated questions, of which the first is kept; says how many."""
    drawn = list(problems)
    first = {problem.question: problem for problem in reversed(drawn)}
    kept = [problem for problem in drawn if first[problem.question] is problem]
    if dropped := len(drawn) - len(kept):
        other = sum(first[problem.question].answer != problem.answer for problem in drawn)
        note = f", {other} of them with another answer" if other else ""
        say(f"note       {name}: {dropped} questions come again and are asked once{note}")
    return tuple(kept)
