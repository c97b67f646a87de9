"""Benchmarks by name: the shared files as they lie, the tasks that are drawn, what is refused."""

import json
from itertools import islice
from pathlib import Path

import pytest

from tests.builders.paths import SHARED
from tests.builders.word_problems import needs_shared
from tracking import BadInput
from train.evals.benchmarks import benchmarks
from train.evals.problems import Problem
from train.gym.generator import Generator
from train.tiny.task import Problem as Tiny

DATA = SHARED / "data"


@needs_shared
@pytest.mark.parametrize(
    ("name", "count", "first"),
    [
        ("amc23", 40, "27"),
        ("aime24", 30, "204"),
        ("math500", 500, r"\left( 3, \frac{\pi}{2} \right)"),
        ("gsm8k", 1319, "18"),
        ("svamp", 1000, "145"),
    ],
)
def test_shared_files_are_read_as_they_lie(name: str, count: int, first: str) -> None:
    (named,) = benchmarks([name], DATA)
    assert (named.name, len(named.problems)) == (name, count)
    assert named.problems[0].answer == first
    assert all(problem.question and problem.answer for problem in named.problems)
    levels = {problem.level for problem in named.problems}
    assert levels == ({1, 2, 3, 4, 5} if name == "math500" else {None})


@needs_shared
def test_a_file_is_called_after_its_name_and_limited() -> None:
    (named,) = benchmarks([str(DATA / "amc23.jsonl")], limit=3)
    (by_name,) = benchmarks(["amc23"], DATA)
    assert named.name == "amc23"
    assert named.problems == by_name.problems[:3]


def test_tiny_problems_are_held_out_and_by_number_of_operations() -> None:
    easy, hard = benchmarks(["tiny-easy", "tiny-hard"])
    for named, operations in ((easy, 1), (hard, 3)):
        assert len({problem.id for problem in named.problems}) == len(named.problems) > 50
        for problem in named.problems:
            tiny = Tiny(problem.question[2:-1], problem.question[0])
            assert tiny.prompt == problem.question
            assert (tiny.operations, tiny.answer) == (operations, problem.answer)
            assert tiny.held_out and tiny.cue_matters


def test_a_generators_questions_are_of_its_test_split() -> None:
    pytest.importorskip("reasoning_gym")
    (named,) = benchmarks(["reasoning-gym/basic_arithmetic"], limit=10)
    assert [json.loads(problem.place)["generator"] for problem in named.problems] == [
        "basic_arithmetic"
    ] * 10


def test_a_generator_takes_parameters_in_its_name() -> None:
    pytest.importorskip("reasoning_gym")
    name = "reasoning-gym/chain_sum?min_terms=2&max_terms=2&allow_negation=false"
    (named,) = benchmarks([name], limit=10)
    assert named.name == "reasoning-gym/chain_sum?allow_negation=false&max_terms=2&min_terms=2"
    for problem in named.problems:
        assert problem.benchmark == named.name
        place = json.loads(problem.place)
        assert place["parameters"] == {"allow_negation": False, "max_terms": 2, "min_terms": 2}
        assert sum(problem.question.count(sign) for sign in (" + ", " - ")) == 1
    with pytest.raises(BadInput, match="2 benchmarks are called"):
        benchmarks([name, "reasoning-gym/chain_sum?max_terms=2&min_terms=2&allow_negation=false"])


def test_a_generator_is_asked_in_a_runs_own_words() -> None:
    pytest.importorskip("reasoning_gym")
    name = "reasoning-gym/chain_sum?min_terms=2&max_terms=2&question=What is {expression}?"
    (named,) = benchmarks([name], limit=5)
    assert named.name.endswith('&question="What is {expression}?"')
    held_out = Generator("chain_sum", {"min_terms": 2, "max_terms": 2}, "What is {expression}?")
    wanted = [item.question for item in islice(held_out.draw("test", 0, 4096), 5)]
    assert [problem.question for problem in named.problems] == wanted
    assert all(question.startswith("What is ") for question in wanted)
    for words, message in (("7", "question is 7"), ("What is {sum}?", "cannot be filled in")):
        with pytest.raises(BadInput, match=message):
            benchmarks([f"reasoning-gym/chain_sum?question={words}"])


def test_a_question_that_comes_again_is_asked_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, {"answer": "4"}, {"question": "3+3", "answer": "6"}, {"answer": "5"})
    (named,) = benchmarks([str(path)])
    assert [problem.answer for problem in named.problems] == ["4", "6"]
    printed = capsys.readouterr().out
    assert "own: 1 questions come again and are asked once, 1 of them with another" in printed


def test_a_problems_id_is_that_of_its_question_and_answer() -> None:
    one = Problem("a", "2+2", "4")
    assert one.id == Problem("b", "2+2", "4").id
    assert len({one.id, Problem("a", "2+2", "5").id, Problem("a", "2+3", "4").id}) == 3


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answer": None}, "own.jsonl, line 2: a word problem needs"),
        ({"answer": " "}, "own.jsonl, line 2: the answer is empty"),
        ([1, 2], "own.jsonl, line 2: no problem, but '[1, 2]'"),
    ],
)
def test_a_problem_without_an_answer_is_refused_by_its_line(
    tmp_path: Path, row: dict, message: str
) -> None:
    with pytest.raises(BadInput, match=message.replace("[", r"\[")):
        benchmarks([str(written(tmp_path, {"answer": "4"}, row))])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["amc32"], "unknown benchmark 'amc32'; one of amc23"),
        ([], "no benchmark is named; one of amc23"),
        (["tiny-easy", "tiny-easy"], "2 benchmarks are called 'tiny-easy'"),
        (["nowhere.jsonl"], "benchmark nowhere.jsonl: No such file"),
        (["reasoning-gym/nothing"], "reasoning-gym has no generator 'nothing'"),
        (["reasoning-gym/nothing?a=1"], "reasoning-gym has no generator 'nothing'"),
        (
            ["reasoning-gym/chain_sum?min_term=2"],
            r"reasoning-gym/chain_sum has no parameter 'min_term'; it has min_terms, max_terms",
        ),
        (["reasoning-gym/chain_sum?min_terms=two"], "min_terms is 'two'; it takes int"),
        (["reasoning-gym/chain_sum?min_terms"], "'min_terms' is no name=value"),
        (["reasoning-gym/chain_sum?min_terms=2&min_terms=3"], "or comes twice"),
    ],
)
def test_an_unknown_benchmark_is_one_line(names: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        benchmarks(names)


def test_a_folder_says_what_it_has(tmp_path: Path) -> None:
    written(tmp_path, {"answer": "4"})
    with pytest.raises(BadInput, match="has no gsm8k"):
        benchmarks(["gsm8k"], tmp_path)
    with pytest.raises(BadInput, match="unknown benchmark 'mine'; one of own, tiny-easy"):
        benchmarks(["mine"], tmp_path)
    with pytest.raises(BadInput, match="limit is 0"):
        benchmarks(["own"], tmp_path, limit=0)


def written(folder: Path, *rows: object) -> Path:
    """A file of problems, which ask 2+2 where they say nothing else."""
    path = folder / "own.jsonl"
    lines = [{"question": "2+2", **row} if isinstance(row, dict) else row for row in rows]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    return path
