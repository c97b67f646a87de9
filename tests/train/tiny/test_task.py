"""The tiny world's task keeps its laws."""

import random

import pytest
from hypothesis import given

from tests.builders.chains import cues, expressions
from train.tiny import task
from train.tiny.task import Problem


def left_to_right(expression: str, cue: str) -> int:
    """Python's own arithmetic, forced left to right by brackets and reduced only at the end."""
    bracketed = "(" * (len(expression) // 2) + expression[0]
    for start in range(1, len(expression), 2):
        bracketed += expression[start : start + 2] + ")"
    return eval(f"{cue}({bracketed})") % 10


def test_the_worked_solution_is_the_one_documented():
    assert task.solution("3+5*2", "-") == "3+5=8;8*2=6;-6=4;####4"
    assert task.solution("3+5*2", "+") == "3+5=8;8*2=6;####6"
    assert Problem("3+5*2", "+").prompt == "+(3+5*2)"


@given(expressions, cues)
def test_the_answer_is_that_of_an_independent_evaluator(expression: str, cue: str):
    problem = Problem(expression, cue)
    assert int(problem.answer) == left_to_right(expression, cue)
    assert problem.cue_matters == (left_to_right(expression, "+") != left_to_right(expression, "-"))


@given(expressions, cues)
def test_every_step_of_a_solution_is_true_and_leads_to_the_next(expression: str, cue: str):
    *steps, final = task.solution(expression, cue).split(";")
    assert len(steps) == Problem(expression, cue).operations + (cue == "-")
    results = [step.split("=")[1] for step in steps]
    for step, result in zip(steps, results, strict=True):
        assert eval(step.split("=")[0]) % 10 == int(result)
    assert final == f"####{results[-1]}"


@given(expressions, cues)
def test_the_answer_is_read_back_from_a_solution(expression: str, cue: str):
    problem = Problem(expression, cue)
    assert task.answer_of(problem.solution) == problem.answer
    assert task.answer_of(problem.solution[-5:]) == problem.answer


@pytest.mark.parametrize(
    "text",
    ["", "4", "####", "####14", "####4;", "####4\n", " ####4 ", "####4####4", "#####4", "####٤"],
)
def test_no_answer_is_read_from_malformed_text(text: str):
    assert task.answer_of(text) is None


@pytest.mark.parametrize(
    ("expression", "cue"),
    [("", "+"), ("3", "+"), ("3/2", "+"), ("12+3", "-"), ("1+2", ""), ("1+2", "+-")],
)
def test_what_is_not_a_cued_chain_is_refused(expression: str, cue: str):
    with pytest.raises(ValueError, match="not a cued chain"):
        task.solution(expression, cue)


def test_the_splits_are_disjoint_and_an_eighth_is_held_out():
    train = {problem.expression for problem in task.problems("train", 4000, seed=0)}
    test = {problem.expression for problem in task.problems("test", 4000, seed=0)}
    assert not train & test
    chains = {
        f"{a}{op}{b}*{c}" for a in range(10) for op in "+-*" for b in range(10) for c in range(10)
    }
    share = sum(Problem(chain, "+").held_out for chain in chains) / len(chains)
    assert 0.1 < share < 0.15


def test_the_split_of_an_expression_never_changes():
    held_out = [digit for digit in range(10) if Problem(f"{digit}*{digit}-7", "+").held_out]
    assert held_out == [1, 7]


def test_problems_are_a_function_of_their_seed_alone():
    random.seed(0)
    first = task.problems("train", 50, seed=3)
    random.seed(1)
    assert task.problems("train", 50, seed=3) == first
    assert task.problems("train", 80, seed=3)[:50] == first
    assert task.problems("train", 50, seed=4) != first


def test_problems_have_one_to_three_operations_and_both_cues():
    drawn = task.problems("train", 2000, seed=0)
    for operations, share in {1: 1 / 3.4, 2: 1.2 / 3.4, 3: 1.2 / 3.4}.items():
        assert sum(item.operations == operations for item in drawn) == pytest.approx(
            2000 * share, rel=0.15
        )
    assert sum(item.cue == "-" for item in drawn) == pytest.approx(1000, rel=0.15)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split"):
        task.problems("validation", 1, seed=0)  # type: ignore[arg-type]


def test_the_test_set_holds_only_problems_whose_cue_matters():
    rows = task.dataset("test", 300, seed=0)
    assert set(rows.column_names) == {"prompt", "solution", "answer", "operations"}
    for row in rows.to_list():
        prompt = row["prompt"][0]["content"]
        problem = Problem(prompt[2:-1], prompt[0])
        assert problem.held_out and problem.cue_matters and problem.prompt == prompt
        assert (row["solution"], row["answer"]) == (problem.solution, problem.answer)
        assert row["operations"] == problem.operations


def test_sft_rows_are_the_worked_solutions_of_the_same_problems():
    rows, chats = task.dataset("train", 30, seed=5), task.sft_dataset("train", 30, seed=5)
    assert chats.column_names == ["messages"]
    for row, chat in zip(rows.to_list(), chats.to_list(), strict=True):
        reply = {"role": "assistant", "content": row["solution"]}
        assert chat["messages"] == [*row["prompt"], reply]


def test_the_reward_is_one_for_the_exact_answer_and_else_zero():
    completions = ["1+2=3;####3", "####4", "3", "####3 "]
    assert task.tiny_answer_reward(completions, answer=["3"] * 4) == [1.0, 0.0, 0.0, 0.0]
    chats = [[{"role": "assistant", "content": text}] for text in completions]
    assert task.tiny_answer_reward(completions=chats, answer=["3"] * 4, prompts=None) == [
        1,
        0,
        0,
        0,
    ]
