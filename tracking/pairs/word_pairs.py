"""Prompt pairs from word problems, one for each problem, by what they contrast."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tracking.errors import BadInput
from tracking.pairs.equations import read_solution
from tracking.pairs.numbers import restyle, values
from tracking.pairs.problems import WordProblem, chat_prompt
from tracking.pairs.rules import (
    CHANGE_RULES,
    NUMBER_RULES,
    PAIR_RULES,
    SOLUTION_RULES,
    objection,
)
from tracking.pairs.swaps import Swap, last_digits_first, rewrite, swaps, uses
from tracking.pairs.text import Dropped, Pair, pair_at_first_difference

WORD_CONTRASTS = ("operand", "result", "answer")


@dataclass(frozen=True)
class Turn:
    """The model's turn: what it has written, and the number that is right to come next."""

    given: str
    target: str


Turns = tuple[Turn, Turn]
"""The clean and the corrupted turn."""


def operand_turns(swap: Swap) -> Turns | Dropped:
    """Up to the changed number, where the solution first writes it."""
    used = swap.use.mentions[0]
    written = restyle(used.text, swap.value)
    if written is None:
        return Dropped("the solution writes the changed number in another form")
    given = swap.use.solution.text[: used.start]
    return Turn(given, used.text), Turn(given, written)


def result_turns(swap: Swap) -> Turns | Dropped:
    """Up to the result of the first equation with the changed number, changed there alike."""
    text, equation = swap.use.solution.text, swap.use.equation
    if equation.result is None:
        return Dropped("the result of the equation is not written after it")
    result, after = equation.result, swap.result
    if after is None or after == equation.value:
        return Dropped("the first equation comes to the same")
    if not set(equation.operands) <= set(values(text[equation.start : result.start])):
        return Dropped("the equation is not written out")
    if {equation.value, after} & set(values(text[: result.start])):
        return Dropped("the result stands before its equation")
    written = restyle(result.text, after)
    given = rewrite(text[: result.start], {swap.use.number.value: swap.value})
    if written is None or given is None:
        return Dropped("no digit gives a result of the same length")
    return Turn(text[: result.start], result.text), Turn(given, written)


ASKED = "The answer is "


def answer_turns(swap: Swap) -> Turns | Dropped:
    """The answer at once: the changed one by way of every equation of the solution."""
    answer, after = swap.use.problem.answer, swap.results[-1]
    written = restyle(answer, after) if after is not None else None
    if written is None or written == answer:
        return Dropped("no digit gives another answer of the same length")
    return Turn(ASKED, answer), Turn(ASKED, written)


TURNS: dict[str, Callable[[Swap], Turns | Dropped]] = {
    "operand": operand_turns,
    "result": result_turns,
    "answer": answer_turns,
}


def word_pairs(
    contrast: str,
    problems: Sequence[WordProblem],
    tokenizer: Any,
    seed: int = 0,
    system_prompt: str | None = None,
    solutions: Sequence[str] | None = None,
) -> Iterator[Pair | Dropped]:
    """One pair of a contrast of `WORD_CONTRASTS` for each problem, or why there is none.

    `solutions`, one for each problem, take the place of those in the data: a model's own, say,
    from `greedy_solutions`. The same problems and seed give the same pairs in every process, and
    a problem's pair does not depend on the others. Raises BadInput for an unknown contrast.
    """
    if contrast not in WORD_CONTRASTS:
        raise BadInput(
            f"no prompt pairs of contrast '{contrast}': choose from {', '.join(WORD_CONTRASTS)}"
        )
    if solutions is not None and len(solutions) != len(problems):
        raise BadInput(f"{len(solutions)} solutions for {len(problems)} word problems")
    for index, problem in enumerate(problems):
        if solutions is not None:
            problem = replace(problem, solution=solutions[index])
        yield word_pair(contrast, problem, tokenizer, seed, system_prompt)


def word_pair(
    contrast: str, problem: WordProblem, tokenizer: Any, seed: int, system_prompt: str | None
) -> Pair | Dropped:
    pair: Pair | Dropped = Dropped("the solution uses no number of the question")
    order = random.Random(f"{seed} {contrast} {problem.question}")
    for swap in sound_swaps(contrast, problem, order):
        if isinstance(swap, Dropped):
            pair = swap
            continue
        pair = pair_of(contrast, swap, tokenizer, system_prompt)
        if isinstance(pair, Pair):
            break
    return pair


def sound_swaps(
    contrast: str, problem: WordProblem, order: random.Random
) -> Iterator[Swap | Dropped]:
    """The digit swaps to which no rule objects, number by number, in a random order."""
    if not problem.solution:
        yield Dropped("no worked solution")
        return
    solution = read_solution(problem.solution)
    if reason := objection(SOLUTION_RULES, problem, solution):
        yield Dropped(reason)
        return
    candidates = uses(problem, solution)
    order.shuffle(candidates)
    if contrast == "operand":
        candidates.sort(key=lambda use: -len(use.number.text))
    for use in candidates:
        if reason := objection(NUMBER_RULES, use):
            yield Dropped(reason)
            continue
        ways = swaps(use, order)
        for swap in last_digits_first(ways) if contrast == "operand" else ways:
            reason = objection(CHANGE_RULES, swap)
            yield Dropped(reason) if reason else swap


def pair_of(contrast: str, swap: Swap, tokenizer: Any, system_prompt: str | None) -> Pair | Dropped:
    turns = TURNS[contrast](swap)
    if isinstance(turns, Dropped):
        return turns
    clean, corrupted = turns
    before = chat_prompt(tokenizer, swap.use.problem.question, system_prompt) + clean.given
    after = chat_prompt(tokenizer, swap.question, system_prompt) + corrupted.given
    pair = pair_at_first_difference(tokenizer, (before, clean.target), (after, corrupted.target))
    if isinstance(pair, Pair) and (reason := objection(PAIR_RULES[contrast], swap, pair)):
        return Dropped(reason)
    return pair
