"""Prompt pairs of generators: the two sides differ in one thing, and each label is right."""

import re
from functools import partial
from typing import Any

import pytest
import torch

from tests.builders.decoders import make_decoder
from tracking.pairs.problems import chat_prompt
from tracking.pairs.text import Dropped, Pair
from train.gym.generator import Generator, solves
from train.gym.pairs import first_token_pairs, item_pairs, operand_pairs
from train.gym.plain_questions import plain_questions
from train.tiny.tokenizer import tokenizer

pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")
TOKENIZER = tokenizer()
PROMPT = partial(chat_prompt, TOKENIZER)
TURNS = re.compile(r"<\|user\|>(.*)<\|assistant\|>(.*)⟦(.)⟧", re.DOTALL)
SHORT = Generator(
    "chain_sum",
    {"min_terms": 2, "max_terms": 3, "min_digits": 1, "max_digits": 2},
    "What is {expression}?",
)


def turns(text: str) -> tuple[str, str, str]:
    """What the user asks, what the model has begun with, and the target."""
    match = TURNS.fullmatch(text)
    assert match is not None
    return match[1], match[2], match[3]


def usable(pairs: Any) -> list[Pair]:
    return [pair for pair in pairs if isinstance(pair, Pair)]


def test_operand_pairs_differ_in_one_digit_and_target_the_results() -> None:
    pairs = usable(operand_pairs(SHORT.draw("pairs", 0, 200), PROMPT, TOKENIZER))
    assert len(pairs) > 100
    for pair in pairs:
        questions, answers = [], []
        for asked, begun, target in map(turns, pair.text):
            expression, _, shared = begun.partition(" =")
            assert asked == f"What is {expression}?"
            questions.append(asked)
            answers.append(str(eval(expression)))
            assert f" {answers[-1]}".startswith(shared + target)
        assert sum(a != b for a, b in zip(*questions, strict=True)) == 1
        assert (int(answers[0]) < 0) == (int(answers[1]) < 0)
        assert len(pair.clean) == len(pair.corrupted) and pair.correct != pair.incorrect


def test_items_of_a_pair_do_not_take_each_others_answers() -> None:
    for name in ("chain_sum", "gcd", "lcm"):
        items = [*Generator(name).draw("pairs", 0, 200)]
        by_question = {item.question: item for item in items}
        pairs = usable(item_pairs(items, PROMPT, TOKENIZER))
        asked = [turns(text)[0] for pair in pairs for text in pair.text]
        assert len(asked) == len({*asked}) >= 10  # each item once
        for clean, corrupted in zip(asked[::2], asked[1::2], strict=True):
            one, other = by_question[clean], by_question[corrupted]
            assert solves(one.answer, one.place) and not solves(one.answer, other.place)
            assert solves(other.answer, other.place) and not solves(other.answer, one.place)


def test_the_first_token_is_the_equations_or_the_models_own() -> None:
    model = make_decoder(vocabulary=len(TOKENIZER)).train()
    pairs = usable(first_token_pairs(SHORT.draw("pairs", 0, 12), PROMPT, TOKENIZER, lambda: model))
    assert pairs and model.training
    model.eval()
    plain = {*plain_questions()}
    for pair in pairs:
        (asked, _, first), (other, _, _) = map(turns, pair.text)
        assert asked.removeprefix("What is ")[0] == first
        assert other in plain and len(pair.clean) == len(pair.corrupted)
        with torch.no_grad():
            row = model(torch.tensor([pair.corrupted])).logits[0, -1]
        assert int(row.argmax()) == pair.incorrect != pair.correct


def test_what_has_no_pair_says_why() -> None:
    moves = [*Generator("rush_hour").draw("pairs", 0, 3)]
    for pairs in (
        operand_pairs(moves, PROMPT, TOKENIZER),
        item_pairs(moves, PROMPT, TOKENIZER),
        first_token_pairs(moves, PROMPT, TOKENIZER, lambda: None),
    ):
        assert all(isinstance(pair, Dropped) for pair in pairs)
    (sums, *_) = Generator("chain_sum", {}, "{expression} {expression}").draw("pairs", 0, 2)
    (dropped,) = operand_pairs([sums], PROMPT, TOKENIZER)
    assert dropped == Dropped("no expression in the question that comes to the answer")


def test_there_are_plain_questions_of_many_lengths() -> None:
    questions = plain_questions()
    assert len(questions) == len({*questions})
    assert {*range(6, 20)} <= {len(question.split()) for question in questions}
