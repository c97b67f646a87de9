"""Equations in worked solutions: found in the text, evaluated exactly."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from tracking.pairs.numbers import NUMBER, Number, values

# Equations in worked solutions

OPERATORS: dict[type, Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def evaluate(expression: str) -> Fraction | None:
    """The exact value of a sum of numbers, + - * / and parentheses; None for anything else."""
    worked = worked_out(expression, {})
    return worked[0] if worked else None


def rework(expression: str, changed: Mapping[Fraction, Fraction]) -> Fraction | None:
    """The value of an expression in which each number that is a key of `changed` is its value
    there; None where a step of it no longer comes out as people count or pay."""
    worked = worked_out(expression, changed)
    return worked[1] if worked else None


Worked = tuple[Fraction, Fraction]
"""A value before and after the change."""


def worked_out(expression: str, changed: Mapping[Fraction, Fraction]) -> Worked | None:
    if len(expression) > 200:
        return None
    try:
        return value_of(ast.parse(expression.strip(), mode="eval").body, changed)
    except (SyntaxError, ValueError, ZeroDivisionError):
        return None


def value_of(node: ast.expr, changed: Mapping[Fraction, Fraction]) -> Worked:
    match node:
        case ast.Constant(value=int() | float() as number):
            exact = Fraction(str(number))  # by way of its text: 0.1 is a tenth
            return exact, changed.get(exact, exact)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            before, after = value_of(operand, changed)
            return -before, -after
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            apply = OPERATORS[type(op)]
            (left_before, left_after) = value_of(left, changed)
            (right_before, right_after) = value_of(right, changed)
            before, after = apply(left_before, right_before), apply(left_after, right_after)
            if before != after and not comes_out(before, after):
                raise ValueError("people do not count or pay with that")
            return before, after
    raise ValueError("not arithmetic")


def comes_out(before: Fraction, after: Fraction) -> bool:
    """Whether a step's new value is of the old one's kind: above zero, whole or not, in hundredths
    or not, a part of one or more."""
    kinds = [
        (value > 0, value.denominator == 1, (value * 100).denominator == 1, value < 1)
        for value in (before, after)
    ]
    return kinds[0] == kinds[1]


@dataclass(frozen=True)
class Equation:
    """An equation of a solution.

    expression: its left side in plain signs, as `evaluate` reads it
    value: what the solution says it comes to
    start: where in the solution's text the sentence that states it begins
    position: where in the text its result stands, or would stand
    result: the result in the text, None where it is not written there
    """

    expression: str
    value: Fraction
    start: int
    position: int
    result: Number | None

    @property
    def operands(self) -> list[Fraction]:
        return values(self.expression)

    @property
    def end(self) -> int:
        """Where its left side has ended: the place before its result."""
        return self.result.start if self.result else self.position

    @property
    def holds(self) -> bool:
        return evaluate(self.expression) == self.value


@dataclass(frozen=True)
class Solution:
    """A worked solution as a reader sees it, and its equations in order."""

    text: str
    equations: tuple[Equation, ...]


def read_solution(solution: str) -> Solution:
    """Find the equations: GSM8K's `<<48/2=24>>`, which no reader sees, or those in the text."""
    return read_annotated(solution) if "<<" in solution else read_plain(solution)


ANNOTATION = re.compile(r"<<([^<>=]*)=([^<>=]*)>>")


def read_annotated(solution: str) -> Solution:
    text, equations, read = "", [], 0
    for match in ANNOTATION.finditer(solution):
        text += solution[read : match.start()]
        read = match.end()
        written = re.compile(rf"\s*\$?\s*({NUMBER.pattern})").match(solution, read)
        value = evaluate(arithmetic(match.group(2)))
        if value is None:
            continue
        result = None
        if written and Fraction(written.group(1).replace(",", "")) == value:
            result = Number(written.group(1), len(text) + written.start(1) - read)
        earlier = equations[-1].position if equations else 0
        start = max(earlier, text.rfind("\n") + 1)
        position = result.end if result else len(text)
        equations.append(Equation(arithmetic(match.group(1)), value, start, position, result))
    return Solution(text + solution[read:], tuple(equations))


LEFT_SIDE = re.compile(
    r"(?:[\d\s.,+*/()$\u00d7\u00f7\u00b7\u2212-]|\\\$|\\times|\\cdot|\\div|(?<=[\d\s])x(?=[\s\d]))+$"
)
RIGHT_SIDE = re.compile(rf"\s*(?:\\boxed\{{)?\\?\$?\s*({NUMBER.pattern})")
GOES_ON = re.compile(r"\}?\s*(?:[-+*/^%(\u00d7\u00f7\u00b7\u2212]|\\%|\\[a-zA-Z])|[\w!]|\s+x\s*\d")


def read_plain(solution: str) -> Solution:
    equations = []
    for sign in re.finditer("=", solution):
        line = solution[: sign.start()].rpartition("\n")[2]
        left, right = LEFT_SIDE.search(line), RIGHT_SIDE.match(solution, sign.end())
        if not left or not right or GOES_ON.match(solution[right.end() :]):
            continue
        glued = line[: left.start()][-1:] and line[left.start()] not in " ,$\\"
        expression = arithmetic(re.split(r"[.,]\s", left.group())[-1])
        if glued or not re.match(r"[\d.(]", expression) or len(values(expression)) < 2:
            continue
        result = Number(right.group(1), right.start(1))
        start = sign.start() - len(line) + left.start()
        equations.append(Equation(expression, result.value, start, result.end, result))
    return Solution(solution, tuple(equations))


SIGNS = {
    "\\times": "*",
    "\\cdot": "*",
    "\\div": "/",
    "\u00d7": "*",
    "\u00b7": "*",
    "\u00f7": "/",
    "\u2212": "-",
}


def arithmetic(written: str) -> str:
    """An expression in the signs that `evaluate` reads: without currency and thousands commas."""
    for sign, plain_sign in SIGNS.items():
        written = written.replace(sign, plain_sign)
    written = re.sub(r"(?<=[\d\s)])[xX](?=[\s\d(.$])", "*", written.replace("\\$", "$"))
    written = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", written).replace("$", "")
    return re.sub(r"(?<![\d.])0+(?=\d)", "", written).strip()
