"""Benchmarks by name: word problems from the Hub or a file, the tiny task's, reasoning-gym's.

    amc23, aime24, math500, gsm8k, svamp   from the Hub, or NAME.jsonl in a folder
    path/to/problems.jsonl                 a file, called after its name
    tiny-easy, tiny-hard                   the tiny task's test split: one operation, and three
    reasoning-gym/chain_sum                a generator's test split, with its defaults, or with
    reasoning-gym/chain_sum?min_terms=2&max_terms=2    parameters, each value JSON or text

Each holds the same problems in every run, whatever the seed of the sampling.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from tracking.errors import BadInput
from tracking.pairs.problems import read_problem
from train.data.rows import rows
from train.evals.grading import grade_gym, grade_math, grade_tiny
from train.evals.problems import Benchmark, Problem, each_once
from train.gym.generator import HELD_OUT, SOURCE, Generator
from train.tiny.task import problems

HUB = {  # data set, configuration, split
    "amc23": ("math-ai/amc23", None, "test"),
    "aime24": ("HuggingFaceH4/aime_2024", None, "train"),
    "math500": ("HuggingFaceH4/MATH-500", None, "test"),
    "gsm8k": ("openai/gsm8k", "main", "test"),
    "svamp": ("ChilleD/SVAMP", None, "test"),
}
TINY = {"tiny-easy": (1.0,), "tiny-hard": (0.0, 0.0, 1.0)}  # weights of one, two, three operations
DRAWN = 128  # at most so many different problems of what is drawn
DRAWS = 4 * DRAWN  # of the tiny task; of one operation there are some 60 different ones


def benchmarks(
    names: Sequence[str], folder: Path | None = None, limit: int | None = None
) -> list[Benchmark]:
    """The benchmarks of these names, of each the first `limit` problems.

    `folder`: where `NAME.jsonl` lies for names of word problems; without it they are the Hub's.
    Raises `BadInput` for an unknown name, a name that comes twice, a file that is missing, and a
    problem without an answer.
    """
    if not names:
        raise BadInput(f"no benchmark is named; {_known(folder)}")
    if limit is not None and limit < 1:
        raise BadInput(f"limit is {limit}; at least 1 problem of each benchmark")
    whole = [_benchmark(name, folder) for name in names]
    for name, times in Counter(benchmark.name for benchmark in whole).items():
        if times > 1:
            raise BadInput(f"{times} benchmarks are called {name!r}; name each once")
    return [replace(each, problems=each.problems[:limit]) for each in whole]


def _benchmark(name: str, folder: Path | None) -> Benchmark:
    if name in TINY:
        return Benchmark(name, _tiny(name), grade_tiny, "the tiny task's test split")
    if name.startswith(SOURCE):
        return _of_generator(name)
    if name.endswith(".jsonl"):
        return _of_file(Path(name).stem, Path(name))
    if folder is not None and (folder / f"{name}.jsonl").is_file():
        return _of_file(name, folder / f"{name}.jsonl")
    if name not in HUB:
        raise BadInput(f"unknown benchmark {name!r}; {_known(folder)}")
    if folder is not None:
        raise BadInput(f"benchmark {name!r}: {folder} has no {name}.jsonl")
    return _of_hub(name)


def _known(folder: Path | None) -> str:
    names = sorted(path.stem for path in folder.glob("*.jsonl")) if folder else [*HUB]
    return f"one of {', '.join([*names, *TINY])}, reasoning-gym/NAME, or a .jsonl file"


def _of_hub(name: str) -> Benchmark:
    source, config, split = HUB[name]
    try:
        data = rows(source, split, config).to_list()
    except BadInput as error:
        raise BadInput(f"{error}; or name a file of its problems, {name}.jsonl") from None
    numbered = enumerate(data, start=1)
    asked = [_word_problem(name, f"{source}, row {number}", row) for number, row in numbered]
    return Benchmark(name, each_once(name, asked), grade_math, source)


def _of_file(name: str, path: Path) -> Benchmark:
    asked = [_word_problem(name, where, row) for where, row in _lines(path)]
    if not asked:
        raise BadInput(f"{path} has no problems")
    return Benchmark(name, each_once(name, asked), grade_math, str(path))


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    """The rows of a JSONL file, each with its file and line."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"benchmark {path}: {getattr(error, 'strerror', None) or error}") from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield f"{path}, line {number}", json.loads(line)
            except ValueError:
                raise BadInput(f"{path}, line {number} is no JSON") from None


def _word_problem(name: str, where: str, row: Any) -> Problem:
    if not isinstance(row, dict):
        raise BadInput(f"{where}: no problem, but {str(row)[:40]!r}")
    try:
        problem = read_problem(row)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None
    if not problem.answer:
        raise BadInput(f"{where}: the answer is empty; a benchmark needs answers")
    return Problem(name, problem.question, problem.answer, level=_level(row))


def _level(row: Mapping[str, Any]) -> int | None:
    """Of MATH, `5` or `Level 5`."""
    level = re.fullmatch(r"(?:Level )?(\d+)", str(row.get("level")))
    return int(level[1]) if level else None


def _tiny(name: str) -> tuple[Problem, ...]:
    """Different problems whose answer depends on the cue."""
    drawn = dict.fromkeys(problems("test", DRAWS, 0, TINY[name], cue_matters=True))
    return tuple(Problem(name, each.prompt, each.answer) for each in islice(drawn, DRAWN))


def _of_generator(name: str) -> Benchmark:
    """Different questions that no training run has met which asks in the same words, the
    generator's or those of `question`. The benchmark is called after generator and parameters,
    these in the order of their names."""
    generator, _, query = name.removeprefix(SOURCE).partition("?")
    parameters = dict(sorted(_parameters(name, query).items()))
    asked_for = "&".join(f"{key}={json.dumps(value)}" for key, value in parameters.items())
    called = f"{SOURCE}{generator}?{asked_for}" if asked_for else f"{SOURCE}{generator}"
    wording = parameters.pop("question", None)
    if wording is not None and not isinstance(wording, str):
        raise BadInput(f"{name}: question is {wording!r}; it must be words like 'What is {{x}}?'")
    items = Generator(generator, parameters, wording).draw("test", 0, 2 * HELD_OUT * DRAWN)
    asked = tuple(Problem(called, i.question, i.answer, i.place) for i in islice(items, DRAWN))
    if not asked:
        raise BadInput(f"{name}: no question of its test split that its scorer can grade")
    return Benchmark(called, asked, grade_gym, "its test split")


def _parameters(name: str, query: str) -> dict[str, Any]:
    """Of `a=1&b=word`: values are JSON, or else text."""
    parameters: dict[str, Any] = {}
    for part in filter(None, query.split("&")):
        key, equals, value = part.partition("=")
        if not (key and equals) or key in parameters:
            raise BadInput(f"{name}: {part!r} is no name=value, or comes twice; ?a=1&b=2")
        try:
            parameters[key] = json.loads(value)
        except ValueError:
            parameters[key] = value
    return parameters
