"""Word problems: one that everyone knows, and those of real sets."""

import json
from itertools import islice

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.builders.paths import SHARED
from tracking.pairs.equations import read_solution
from tracking.pairs.problems import WordProblem, read_problem
from tracking.pairs.swaps import Swap, Use, uses

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real data at {SHARED}")


NATALIA = WordProblem(
    "Natalia sold clips to 48 of her friends in April, and half as many in May. How many?",
    "She sold 48/2 = <<48/2=24>>24 clips in May.\nIn all, 48+24 = <<48+24=72>>72 clips.",
    "72",
)


def character_tokenizer() -> PreTrainedTokenizerFast:
    characters = ["<pad>", "<unk>", *(chr(code) for code in (10, *range(32, 127)))]
    words = {character: index for index, character in enumerate(characters)}
    core = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")  # type: ignore
    core.decoder = decoders.Fuse()  # type: ignore
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", unk_token="<unk>")


TOKENIZER = character_tokenizer()


def use_of(question: str, solution: str, number: str) -> Use:
    """The use of the question's first number that is written so."""
    problem = WordProblem(question, solution, "")
    every = uses(problem, read_solution(solution))
    return next(use for use in every if use.number.text == number)


def swap_of(question: str, solution: str, number: str, written: str) -> Swap:
    return Swap(use_of(question, solution, number), written)


def real_problems(name: str, count: int) -> list[WordProblem]:
    with (SHARED / "data" / f"{name}.jsonl").open() as lines:
        return [read_problem(json.loads(line)) for line in islice(lines, count)]
