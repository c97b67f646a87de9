"""Grading: each benchmark's own grader in a process of its own, with a time limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from train.evals.problems import Benchmark, Grade
from train.evals.sampling import Response
from train.gym.answers import extracted
from train.gym.generator import solves
from train.rewards.scoring import Scorer
from train.tiny.task import answer_of

SECONDS = 30.0  # that a batch may take, and then each of its responses by itself
Log = Callable[[str, list], None]


@dataclass(frozen=True)
class Verdict:
    """Whether a response is right, None where that could not be graded, and the answer that was
    read in it, None where there is none."""

    right: bool | None
    extracted: str | None


def grade_math(
    completions: Sequence[str],
    answer: Sequence[str],
    cut_off: Sequence[bool],
    log_extra: Log,
    **kwargs: Any,
) -> list[float | None]:
    """By math-verify: what is boxed, else what is called the answer, else the last number or
    formula, but of a response that was cut off, where that is any; thoughts (`<think> ...
    </think>`) are left out. None where it cannot read the right answer.

    More is read than `accuracy_reward` of the training reads, which wants LaTeX.
    """
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    grades: list[float | None] = []
    texts = []
    for completion, right, cut in zip(completions, answer, cut_off, strict=True):
        wanted = parse(rf"\boxed{{{right}}}")
        read = [
            LatexExtractionConfig(
                normalization_config=NormalizationConfig(units=True),
                boxed_match_priority=0,
                try_extract_without_anchor=not cut,
            ),
            ExprExtractionConfig(try_extract_without_anchor=not cut),
        ]
        parsed = parse(completion.rpartition("</think>")[2], read)
        grades.append(float(verify(wanted, parsed)) if wanted else None)
        texts.append(next((part for part in parsed[::-1] if isinstance(part, str)), None))
    log_extra("extracted", texts)
    return grades


def grade_tiny(
    completions: Sequence[str], answer: Sequence[str], log_extra: Log, **kwargs: Any
) -> list[float | None]:
    """By the tiny task: the one digit behind `####` at the end."""
    texts = [answer_of(completion) for completion in completions]
    log_extra("extracted", texts)
    return [float(text == right) for text, right in zip(texts, answer, strict=True)]


def grade_gym(
    completions: Sequence[str],
    answer: Sequence[str],
    place: Sequence[str],
    log_extra: Log,
    **kwargs: Any,
) -> list[float | None]:
    """By the generator's own scorer, all or nothing."""
    asked = zip(completions, answer, strict=True)
    log_extra("extracted", [extracted(text, right) or None for text, right in asked])
    return [float(solves(text, where)) for text, where in zip(completions, place, strict=True)]


class Grader:
    """Grades the responses to some benchmarks. To be made before a GPU is used: its processes are
    forked then, which is quick."""

    def __init__(self, benchmarks: Iterable[Benchmark], seconds: float = SECONDS) -> None:
        self.grades = {benchmark.name: benchmark.grade for benchmark in benchmarks}
        self.scorers: dict[Grade, Scorer] = {}
        for grade in self.grades.values():
            if grade not in self.scorers:
                self.scorers[grade] = Scorer(grade.__name__, partial(_same, grade), seconds)
                # A first batch that cannot be graded is no sign here that the grader is broken:
                # it may be all that a resumed job has left.
                self.scorers[grade].called = True

    def grade(self, responses: Sequence[Response]) -> list[Verdict]:
        """A verdict on each response; what takes too long, or fails, has none."""
        verdicts: list[Verdict] = [Verdict(None, None)] * len(responses)
        for grade, scorer in self.scorers.items():
            places = [
                place
                for place, response in enumerate(responses)
                if self.grades[response.request.problem.benchmark] is grade
            ]
            if places:
                graded = _ask(scorer, [responses[place] for place in places])
                for place, verdict in zip(places, graded, strict=True):
                    verdicts[place] = verdict
        return verdicts

    def close(self) -> None:
        """End the processes."""
        for scorer in self.scorers.values():
            scorer.close()


def _ask(scorer: Scorer, responses: Sequence[Response]) -> list[Verdict]:
    texts: list[str | None] = [None] * len(responses)

    def keep(name: str, values: list) -> None:
        texts[:] = values

    problems = [response.request.problem for response in responses]
    grades = scorer(
        [problem.question for problem in problems],
        [response.text for response in responses],
        log_extra=keep,
        answer=[problem.answer for problem in problems],
        place=[problem.place for problem in problems],
        cut_off=[response.cut_off for response in responses],
    )
    pairs = zip(grades, texts, strict=True)
    return [Verdict(None if grade is None else grade >= 1, text) for grade, text in pairs]


def _same(grade: Grade) -> Grade:
    return grade
