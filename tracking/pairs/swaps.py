"""The digit swap: pairs from word problems, by changing one number of the question.

"Natalia sold clips to 48 of her friends" becomes "... to 46 of her friends", digit for digit, so
that the prompt keeps its length in tokens wherever digits are tokens. All equations of the worked
solution are then worked out anew, and it is followed up to a place where the change must show.

A wrong pair is worse than none: `tracking.pairs.rules` has what is asked of a solution, of a
number and of its change.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from tracking.pairs.equations import Equation, Solution, rework
from tracking.pairs.numbers import (
    Number,
    digit_swaps,
    first_difference,
    implied_values,
    numbers,
    restyle,
    values,
)
from tracking.pairs.problems import WordProblem


@dataclass(frozen=True)
class Use:
    """A number of a problem's question that the worked solution uses.

    equation: the first of the solution with the number among its operands
    mentions: where the solution's text writes a number of that value, at least once
    """

    problem: WordProblem
    solution: Solution
    number: Number
    equation: Equation
    mentions: tuple[Number, ...]


@dataclass(frozen=True)
class Swap:
    """A number of a question written with another digit."""

    use: Use
    written: str

    @property
    def value(self) -> Fraction:
        """What the number is changed to."""
        return Fraction(self.written.replace(",", ""))

    @property
    def question(self) -> str:
        number, question = self.use.number, self.use.problem.question
        return question[: number.start] + self.written + question[number.end :]

    @cached_property
    def results(self) -> list[Fraction | None]:
        """What each equation comes to with the changed number; None from the first on that does
        not come out as before, in whole numbers where those were whole."""
        changed, results = {self.use.number.value: self.value}, []
        for equation in self.use.solution.equations:
            result = None if None in results else rework(equation.expression, changed)
            results.append(result)
            if result is not None and result != equation.value:
                changed.setdefault(equation.value, result)
        return results

    @property
    def result(self) -> Fraction | None:
        """What the first equation with the number comes to."""
        return self.results[self.use.solution.equations.index(self.use.equation)]

    @property
    def changes(self) -> list[tuple[Fraction, Fraction]]:
        """Every value that changes with what it becomes, the number's own first."""
        equations = self.use.solution.equations
        reworked = zip(equations, self.results, strict=True)
        after = [(each.value, result) for each, result in reworked if result is not None]
        return [(self.use.number.value, self.value), *((a, b) for a, b in after if a != b)]


def sources(question: str) -> set[Fraction]:
    """The values that a solution may use because the question has them, in digits or in words."""
    return {*values(question), *implied_values(question)}


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


def uses(problem: WordProblem, solution: Solution) -> list[Use]:
    """The numbers of the question that stand in the solution's equations and in its text."""
    in_solution = numbers(solution.text)
    every = []
    for number in numbers(problem.question):
        equations = [each for each in solution.equations if number.value in each.operands]
        mentions = [other for other in in_solution if other.value == number.value]
        if equations and mentions:
            every.append(Use(problem, solution, number, equations[0], tuple(mentions)))
    return every


def swaps(use: Use, order: random.Random) -> list[Swap]:
    """Every digit swap of a number in a random order."""
    ways = digit_swaps(use.number)
    order.shuffle(ways)
    return [Swap(use, written) for written in ways]


def last_digits_first(swaps_of_one: list[Swap]) -> list[Swap]:
    """With its first digits written, it is settled which number the model is writing."""
    return sorted(
        swaps_of_one, key=lambda swap: -first_difference(swap.written, swap.use.number.text)
    )
