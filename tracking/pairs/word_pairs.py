"""Prompt pairs from word problems, one for each problem, by what they contrast."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tracking.errors import BadInput
from tracking.pairs.numbers import NUMBER, numbers, restyle, values
from tracking.pairs.problems import WordProblem, chat_prompt
from tracking.pairs.swaps import Swap, explained, outcome, rewrite, run_forward, swaps
from tracking.pairs.text import Dropped, Pair, pair_at_first_difference

WORD_CONTRASTS = ("operand", "result", "answer")


@dataclass(frozen=True)
class Turn:
    """The model's turn: what it has written, and the number that is right to come next."""

    given: str
    target: str


Turns = tuple[Turn, Turn]
"""The clean and the corrupted turn."""

NO_EQUATION = Dropped("the changed number is in no equation of the solution")


def operand_turns(swap: Swap) -> Turns | Dropped:
    """Up to the changed number, where the solution first writes it."""
    if swap.equation and outcome(swap.equation, swap.change) is None:
        return Dropped("no digit gives an equation that comes out well")
    text = swap.solution.text
    used = next(number for number in numbers(text) if number.value in swap.change)
    written = restyle(used.text, swap.change[used.value])
    if written is None:
        return Dropped("the solution writes the changed number in another form")
    given = text[: used.start]
    return Turn(given, used.text), Turn(given, written)


def result_turns(swap: Swap) -> Turns | Dropped:
    """Up to the result of the first equation with the changed number, changed there alike."""
    equation, text = swap.equation, swap.solution.text
    if equation is None:
        return NO_EQUATION
    result = equation.result
    if result is None:
        return Dropped("the result of the equation is not written after it")
    if not set(equation.operands) <= set(values(text[equation.start : result.start])):
        return Dropped("the equation is not written out")
    if equation.value in values(text[: result.start]):
        return Dropped("the result stands before its equation")
    after = outcome(equation, swap.change)
    if after is None or after == equation.value:
        return Dropped("no digit gives an equation that comes out well")
    written, given = restyle(result.text, after), rewrite(text[: result.start], swap.change)
    if written is None or given is None:
        return Dropped("no digit gives a result of the same length")
    return Turn(text[: result.start], result.text), Turn(given, written)


def answer_turns(swap: Swap) -> Turns | Dropped:
    """The answer at once: the changed one by way of every equation of the solution."""
    if swap.equation is None:
        return NO_EQUATION
    answer, last = swap.problem.answer, swap.solution.equations[-1]
    if not NUMBER.fullmatch(answer) or values(answer) != [last.value]:
        return Dropped("the answer is not the last equation's result")
    if not explained(swap.problem, swap.solution, len(swap.solution.text)):
        return Dropped("a number of the solution comes from nowhere")
    after = run_forward(swap)
    if isinstance(after, Dropped):
        return after
    written = restyle(answer, after)
    if written is None or written == answer:
        return Dropped("no digit gives another answer of the same length")
    return Turn("", answer), Turn("", written)


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
    pair: Pair | Dropped = Dropped("no number of the question can be changed safely")
    for swap in swaps(contrast, problem, random.Random(f"{seed} {contrast} {problem.question}")):
        pair = (
            swap if isinstance(swap, Dropped) else tokens(contrast, swap, tokenizer, system_prompt)
        )
        if isinstance(pair, Pair):
            break
    return pair


def tokens(contrast: str, swap: Swap, tokenizer: Any, system_prompt: str | None) -> Pair | Dropped:
    turns = TURNS[contrast](swap)
    if isinstance(turns, Dropped):
        return turns
    clean, corrupted = turns
    before = chat_prompt(tokenizer, swap.problem.question, system_prompt) + clean.given
    after = chat_prompt(tokenizer, swap.question, system_prompt) + corrupted.given
    return pair_at_first_difference(tokenizer, (before, clean.target), (after, corrupted.target))
