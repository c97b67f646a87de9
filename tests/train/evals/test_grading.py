"""Responses graded right and wrong, in processes that nothing can hang."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from train.evals.benchmarks import benchmarks
from train.evals.grading import Grader, Verdict, grade_math
from train.evals.problems import Benchmark, Problem
from train.evals.sampling import Request, Response


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    grader = Grader([Benchmark("math", (), grade_math, ""), *benchmarks(["tiny-easy"])])
    yield grader
    grader.close()


@pytest.mark.parametrize(
    ("answer", "text", "right"),
    [
        ("27", r"So it is \boxed{27}.", True),
        ("27.0", "27", True),
        ("27", "The answer is 27.0 miles.", True),
        ("18", "She makes $18 every day", True),
        ("18", "#### 18", True),
        ("18", "first 18, then 20", False),
        ("18", "", False),
        ("1000", "1,000 apples", True),
        ("-5", "it is -5", True),
        ("-5", "it is 5", False),
        (r"\frac{1}{2}", "0.5", True),
        (r"\frac{1}{2}", r"\boxed{\frac{2}{4}}", True),
        (r"\left( 3, \frac{\pi}{2} \right)", r"$(3, \pi/2)$", True),
        ("8", r"<think>\boxed{8}</think> It is 9", False),
        ("8", "<think>it is 9</think> 8", True),
    ],
)
def test_math_is_right_where_it_means_the_same(
    grader: Grader, answer: str, text: str, right: bool
) -> None:
    (verdict,) = grader.grade([response(text, answer)])
    assert verdict.right is right


def test_a_response_that_was_cut_off_has_to_say_that_it_answers(grader: Grader) -> None:
    texts = ["so 3 + 5 = 8", "The answer is 8", r"hence \boxed{8}, and"]
    whole = grader.grade([response(text, "8") for text in texts])
    cut = grader.grade([response(text, "8", cut_off=True) for text in texts])
    assert [each.right for each in whole] == [True, True, True]
    assert [each.right for each in cut] == [False, True, True]
    assert [each.extracted for each in cut] == [None, "8", "8"]


def test_what_was_read_as_the_answer_is_kept(grader: Grader) -> None:
    verdicts = grader.grade([response(r"\boxed{27.0}", "27"), response("no idea", "27")])
    assert verdicts == [Verdict(True, "27.0"), Verdict(False, None)]


def test_an_answer_that_cannot_be_read_leaves_it_ungraded(grader: Grader) -> None:
    assert grader.grade([response("8", "")])[0].right is None


def test_each_benchmark_has_its_own_grader(grader: Grader) -> None:
    texts = ["3+5=8;####8", "8"]
    mixed = [response(text, "8", name) for text in texts for name in ("tiny-easy", "math")]
    assert [each.right for each in grader.grade(mixed)] == [True, True, False, True]


def test_a_generators_scorer_grades_its_items() -> None:
    pytest.importorskip("reasoning_gym")
    (named,) = benchmarks(["reasoning-gym/basic_arithmetic"], limit=4)
    grader = Grader([named])
    right = [Response(Request(each, 0), "", each.answer, 1, False) for each in named.problems]
    wrong = [Response(Request(each, 0), "", "0.123", 1, False) for each in named.problems]
    assert [each.right for each in grader.grade(right)] == [True] * 4
    assert [each.right for each in grader.grade(wrong)] == [False] * 4
    grader.close()


def grade_slowly(completions: Sequence[str], **kwargs: Any) -> list[float | None]:
    if "hang" in completions:
        time.sleep(60)
    if "break" in completions:
        raise ValueError
    return [1.0] * len(completions)


def test_what_hangs_or_breaks_is_ungraded_and_spoils_no_other() -> None:
    grader = Grader([Benchmark("slow", (), grade_slowly, "")], seconds=1)
    texts = ["fine", "hang", "fine", "break"]
    verdicts = grader.grade([response(text, "8", "slow") for text in texts])
    assert [each.right for each in verdicts] == [True, None, True, None]
    assert [each.right for each in grader.grade([response("break", "8", "slow")])] == [None]
    grader.close()


def response(text: str, answer: str, benchmark: str = "math", cut_off: bool = False) -> Response:
    request = Request(Problem(benchmark, "asked", answer), 0)
    return Response(request, "", text, 1, cut_off)
