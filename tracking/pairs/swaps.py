"""The digit swap: pairs from word problems, by changing one number of the question.

"Natalia sold clips to 48 of her friends" becomes "... to 46 of her friends", digit for digit, so
that the prompt keeps its length in tokens wherever digits are tokens. Then the worked solution is
followed up to a place where the change must show, and there is the target:

- `operand`: where the number is first used. A model that reads the question writes 48 or 46.
- `result`: at the result of the first equation that uses it, the operand changed alike. A model
  that calculates writes 24 or 23.
- `answer`: at once, with no worked solution before it. The changed answer is found by running all
  equations of the solution forward with the changed number.

A wrong pair is worse than none. A number is left alone where its value may have another source
(twice in the question, 7 beside "week"), or is not its digits (fractions, percentages, "5k",
"5 pm"); and a solution is followed only as far as each of its numbers comes from the question, a
word in it, or an earlier equation, since any other may depend on the changed one unseen.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from tracking.pairs.equations import Equation, Solution, evaluate, read_solution
from tracking.pairs.numbers import (
    LIST_MARKER,
    NOT_COPIED_AFTER,
    NOT_COPIED_BEFORE,
    Number,
    changeable,
    digit_swaps,
    first_difference,
    implied_values,
    numbers,
    restyle,
    values,
)
from tracking.pairs.problems import WordProblem
from tracking.pairs.text import Dropped

# The three contrasts


@dataclass(frozen=True)
class Swap:
    """A problem, its solution, one number of the question written with another digit, and the
    first equation of the solution that uses that number (None where only its sentences do)."""

    problem: WordProblem
    solution: Solution
    equation: Equation | None
    number: Number
    written: str

    @property
    def change(self) -> dict[Fraction, Fraction]:
        return {self.number.value: Fraction(self.written.replace(",", ""))}

    @property
    def question(self) -> str:
        question = self.problem.question
        return question[: self.number.start] + self.written + question[self.number.end :]


def first_use(solution: Solution, number: Number) -> Equation | None:
    """The first equation with the number among its operands."""
    uses = (equation for equation in solution.equations if number.value in equation.operands)
    return next(uses, None)


def objection(problem: WordProblem, solution: Solution, number: Number) -> str | None:
    """Why the solution's first use of the number may not be of the question's, or None."""
    equation = first_use(solution, number)
    mentions = [other for other in numbers(solution.text) if other.value == number.value]
    if not mentions:
        return "the changed number is not used in the solution"
    if any(other.value == number.value for other in solution.equations):
        return "the changed number is also the result of an equation"
    end = mentions[0].end if equation is None else equation.end
    if mentions[0].end > end:
        return "the solution writes the changed number in another form"
    if not all(is_copied(solution.text, mention) for mention in mentions if mention.end <= end):
        return "the solution's number may not be the question's"
    if equation and not equation.holds:
        return "an equation of the solution does not come out"
    if not explained(problem, solution, end):
        return "a number of the solution comes from nowhere"
    return None


def is_copied(text: str, mention: Number) -> bool:
    """Whether a number in a solution is the question's own, not a list's or a percentage's."""
    before, after = text[: mention.start], text[mention.end :]
    marks_item = LIST_MARKER.search(before) and re.match(r"[.):]", after)
    fits = not NOT_COPIED_BEFORE.search(before) and not NOT_COPIED_AFTER.match(after)
    return fits and not marks_item


def explained(problem: WordProblem, solution: Solution, end: int) -> bool:
    """Whether each number of the solution up to `end` has a source: the question, a word in it,
    or an equation before.

    One without may have been worked out from the changed number unseen.
    """
    given = {*values(problem.question), *implied_values(problem.question)}
    results = [(equation.value, equation.position) for equation in solution.equations]
    written = [(number.value, number.end) for number in numbers(solution.text[:end])]
    operands = [
        (value, equation.start)
        for equation in solution.equations
        if equation.start < end
        for value in equation.operands
    ]
    return all(
        value in given or any(value == result and known <= place for result, known in results)
        for value, place in written + operands
    )


def run_forward(swap: Swap) -> Fraction | Dropped:
    """What the last equation comes to with the changed number."""
    question = swap.problem.question
    unchanged = {*values(question), *implied_values(question)} - swap.change.keys()
    changed, after = dict(swap.change), Fraction(0)
    for equation in swap.solution.equations:
        if not equation.holds:
            return Dropped("an equation of the solution does not come out")
        value = outcome(equation, changed)
        if value is None:
            return Dropped("no digit gives equations that come out well")
        if value == equation.value:
            unchanged.add(value)
        elif changed.setdefault(equation.value, value) != value:
            return Dropped("an equation's result has two sources")
        if unchanged & changed.keys():
            return Dropped("an equation's result has two sources")
        after = value
    return after


def outcome(equation: Equation, changed: Mapping[Fraction, Fraction]) -> Fraction | None:
    """What the equation comes to with changed numbers, if people would count or pay with that."""
    after = evaluate(equation.expression, changed)
    if after is None or after == equation.value:
        return after
    hundredths = equation.value.denominator != 1 and (after * 100).denominator == 1
    return after if after > 0 and (after.denominator == 1 or hundredths) else None


def rewrite(text: str, changed: Mapping[Fraction, Fraction]) -> str | None:
    """The text with every number that is a key of `changed` replaced in its own style, or None."""
    pieces, read = [], 0
    for number in numbers(text):
        if number.value in changed:
            written = restyle(number.text, changed[number.value])
            if written is None:
                return None
            pieces += [text[read : number.start], written]
            read = number.end
    return "".join([*pieces, text[read:]])


def swaps(contrast: str, problem: WordProblem, order: random.Random) -> Iterator[Swap | Dropped]:
    """Every digit swap of a problem, number by number, in a random order."""
    if not problem.solution:
        yield Dropped("no worked solution")
        return
    solution, candidates = read_solution(problem.solution), changeable(problem.question)
    order.shuffle(candidates)
    if contrast == "operand":
        candidates.sort(key=lambda number: -len(number.text))
    for number in candidates:
        if reason := objection(problem, solution, number):
            yield Dropped(reason)
            continue
        equation, ways = first_use(solution, number), digit_swaps(number, problem.question)
        order.shuffle(ways)
        if contrast == "operand":
            # With its first digits written, it is settled which number the model is writing.
            ways.sort(key=lambda written: -first_difference(written, number.text))
        yield from (Swap(problem, solution, equation, number, written) for written in ways)
