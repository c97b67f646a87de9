"""Rows of all sets are read as problems."""

import pytest

from tests.builders.word_problems import (
    TOKENIZER,
    needs_shared,
    real_problems,
)
from tracking.errors import BadInput
from tracking.pairs.problems import WordProblem, chat_prompt, read_problem


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            {"question": "Q 48?", "answer": "48/2 = <<48/2=24>>24\n#### 24"},
            WordProblem("Q 48?", "48/2 = <<48/2=24>>24", "24"),
        ),
        ({"problem": "Q?", "answer": 27.0, "question": "Q?"}, WordProblem("Q?", None, "27")),
        (
            {"problem": "Q?", "solution": "S", "answer": r"\frac{1}{2}"},
            WordProblem("Q?", "S", r"\frac{1}{2}"),
        ),
        (
            {
                "Body": "If 7 are red",
                "Question": "How many?",
                "Equation": "( ( 7.0 + 2.0 ) * 30.0 )",
                "Answer": 270.0,
            },
            WordProblem("If 7 are red, how many?", "The equation is (7 + 2) * 30 = 270", "270"),
        ),
    ],
)
def test_rows_of_all_sets_are_read(row, problem):
    assert read_problem(row) == problem


def test_an_unknown_row_is_refused_with_its_columns():
    with pytest.raises(BadInput, match="'prompt', 'completion'"):
        read_problem({"prompt": "Q?", "completion": "A"})


def test_without_a_chat_template_the_turn_is_the_next_line():
    assert chat_prompt(TOKENIZER, "Q?") == "Q?\n"
    assert chat_prompt(TOKENIZER, "Q?", "Be brief.") == "Be brief.\nQ?\n"


@needs_shared
@pytest.mark.parametrize("name", ["math500", "aime24", "amc23", "gsm8k"])
def test_every_row_of_every_set_can_be_read(name):
    problems = real_problems(name, 2000)
    assert all(problem.question and problem.answer for problem in problems)
