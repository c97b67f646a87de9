"""Prompt pairs of a generator's items."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from tracking.pairs.equations import evaluate
from tracking.pairs.solutions import undisturbed
from tracking.pairs.text import Dropped, Pair, pair_at_first_difference, readable, tokenize
from train.gym.generator import Item, solves
from train.gym.plain_questions import plain_questions

Prompt = Callable[[str], str]  # a question as the text after which the model's turn begins
SAME_LENGTH = 48  # plain questions of a length that are asked at most


def operand_pairs(
    items: Iterable[Item], prompt: Prompt, tokenizer: Any
) -> Iterator[Pair | Dropped]:
    """One digit of an operand changed, in the question and in the equation that the model has
    begun: `3 + 5 =` against `3 + 4 =`. The target is where the results part."""
    for item in items:
        if item.expression is None or item.question.count(item.expression) != 1:
            yield Dropped("no expression in the question that comes to the answer")
            continue
        changed = _other_operand(item)
        if changed is None:
            yield Dropped("no changed digit gives another whole number of the same sign")
            continue
        expression, answer = changed
        other = item.question.replace(item.expression, expression)
        yield pair_at_first_difference(
            tokenizer,
            (f"{prompt(item.question)}{item.expression} =", f" {item.answer}"),
            (f"{prompt(other)}{expression} =", f" {answer}"),
        )


def _other_operand(item: Item) -> tuple[str, str] | None:
    """The item's expression with a digit changed, and what it comes to then: another whole number
    of the same sign. Which digit and to what is drawn from the question itself."""
    text = item.expression or ""
    ways = [
        text[:place] + digit + text[place + 1 :]
        for place, old in enumerate(text)
        if old.isdecimal()
        for digit in "0123456789"
        if digit != old
    ]
    random.Random(item.question).shuffle(ways)
    for way in ways:
        value, before = evaluate(way), evaluate(item.answer)  # none with a leading zero
        if value is None or before is None or value == before or value.denominator != 1:
            continue
        if (value < 0) == (before < 0):
            return way, str(value)
    return None


def first_token_pairs(
    items: Iterable[Item], prompt: Prompt, tokenizer: Any, model: Callable[[], Any]
) -> Iterator[Pair | Dropped]:
    """A problem against a plain question of as many tokens; the target is the first token of the
    model's turn.

    Right is that of the worked answer (the 3 of `3 + 5 = 8`), and that with which the model as it
    is now begins to answer the plain question; of the plain questions one is taken whose
    beginning the model finds likeliest for the problem too (`To add 3 and 5 ...`).
    """
    loaded = cache(model)
    plain = _by_length(plain_questions(), prompt, tokenizer)
    begun = cache(lambda length: _by_beginning(loaded(), plain.get(length, [])[:SAME_LENGTH]))
    for number, item in enumerate(items):
        ids, end = tokenize(tokenizer, prompt(item.question), item.worked)
        if end == len(ids):
            yield Dropped("the generator names no answer")
            continue
        others = {token: asked for token, asked in begun(end).items() if token != ids[end]}
        if not others:
            yield Dropped("no plain question of equal token length that begins otherwise")
            continue
        (row,) = _beginnings(loaded(), [ids[:end]])
        other = max(others, key=lambda token: float(row[token]))
        against = others[other][number % len(others[other])]
        yield Pair(
            clean=tuple(ids[:end]),
            corrupted=tuple(against),
            correct=ids[end],
            incorrect=other,
            text=(
                readable(tokenizer, ids, end),
                readable(tokenizer, [*against, other], end),
            ),
        )


def _by_length(
    questions: Iterable[str], prompt: Prompt, tokenizer: Any
) -> dict[int, list[list[int]]]:
    """Questions as token ids, by how many these are."""
    lengths: dict[int, list[list[int]]] = {}
    for asked in questions:
        ids, _ = tokenize(tokenizer, prompt(asked), "")
        lengths.setdefault(len(ids), []).append(ids)
    return lengths


def _by_beginning(model: Any, prompts: Sequence[list[int]]) -> dict[int, list[list[int]]]:
    """Prompts of one length by the token with which the model begins its turn."""
    by_token: dict[int, list[list[int]]] = {}
    for ids, row in zip(prompts, _beginnings(model, prompts) if prompts else (), strict=True):
        by_token.setdefault(int(row.argmax()), []).append(ids)
    return by_token


@torch.no_grad()
def _beginnings(model: Any, prompts: Sequence[Sequence[int]]) -> Tensor:
    """[prompt, vocabulary]: logits of the first token that the model writes, after prompts of one
    length, on the CPU; the model's mode and all random states stay."""
    with undisturbed(model):
        rows = [
            model(input_ids=torch.tensor(prompts[at : at + 8], device=model.device)).logits[:, -1]
            for at in range(0, len(prompts), 8)
        ]
    return torch.cat(rows).float().cpu()


def item_pairs(items: Iterable[Item], prompt: Prompt, tokenizer: Any) -> Iterator[Pair | Dropped]:
    """Two items of as many tokens, each in one pair only, that do not take each other's answer.
    The target is where the answers part, given at once."""
    waiting: dict[int, list[Item]] = {}
    for item in items:
        if not item.answer:
            yield Dropped("the generator names no answer")
            continue
        alike = waiting.setdefault(len(tokenize(tokenizer, prompt(item.question), "")[0]), [])
        other = next((each for each in alike if _tell_apart(item, each)), None)
        if other is None:
            alike.append(item)
            continue
        alike.remove(other)
        yield pair_at_first_difference(
            tokenizer,
            (prompt(other.question), other.answer),
            (prompt(item.question), item.answer),
        )
    for alike in waiting.values():
        for _ in alike:
            yield Dropped("no other item of equal token length with another answer")


def _tell_apart(one: Item, other: Item) -> bool:
    return not solves(one.answer, other.place) and not solves(other.answer, one.place)
