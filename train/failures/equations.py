"""False equations in what a model writes, which is sloppier than a worked solution that pairs are
made of: units between the numbers, chains such as 3 + 5 = 8 * 2 = 16, LaTeX, algebra around it.

Only equations of written numbers are judged, and exactly. What cannot be read for sure (letters
that may be variables, roots, other functions, a side that goes on) is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from tracking.pairs.equations import SIGNS, arithmetic, evaluate
from tracking.pairs.numbers import NUMBER

LATEX = (
    (r"<<[^<>]*>>", ""),  # GSM8K's annotations
    (r"\\\\(?:\[[^\]]*\])?|\\q?quad", "\n"),
    (r"\\[,!;: ]|\{,\}|\\left|\\right|\\displaystyle|&|(?<!\d)\*\*|\*\*(?![\d=])", ""),
    (r"\^(?:\{\\circ\}|\\circ)", " degrees"),
    (r"\\(?:text|mathrm|textbf|boxed|mbox)\s*\{([^{}]*)\}", r" \1"),
    (r"\\?[$\u20ac\u00a3]|\\(?=%)|\\[()\[\]]", ""),
    (r"(?m)^[ \t]*(?:[-*\u2022]|\d+[.)])[ \t]+", ""),  # marks of lists
)
POWER = re.compile(r"(?<![\w.)}])(\d+)(?:\^|\*\*)(?:\{([1-9])\}|([1-9]))(?!\d)")
FRACTION = re.compile(r"(\d*)\s*\\[dt]?frac\s*(?:\{([^{}]*)\}\s*\{([^{}]*)\}|(\d)(\d))")
IMPLIED = (
    (r"(?<=[\d)%])[ \t]*[xX][ \t]*(?=\(?\.?\d)|(?<=[a-z]{2})[ \t]+[xX][ \t]+(?=\(?\.?\d)", " * "),
    (r"(%|/\s*\d+)\s+of\s+(?=\d)", r"\1 * "),
    (r"(?<=[\d)])(?=\()", "*"),
    (r"(?<=/ )(\d+/\d+)(?![\d/])", r"(\1)"),  # 6 / 1/30
    (r"\((?:[A-Za-z]{2,}[ ,]*)+\)", ""),  # words in brackets
)
TOKEN = re.compile(
    rf"(?P<number>{NUMBER.pattern})(?!:\d)|(?P<sign>[-+*/])(?![=>])|(?P<bracket>[()])|(?P<percent>%)"
    r"|(?P<equals>(?<![<>!:=+*/-])=(?![=>]))|(?P<word>[A-Za-z][A-Za-z&'\u2019-]*[A-Za-z](?!\d))"
    r"|(?P<end>[.,;:!?\"'\n]+(?=\s|$)|[;\n\]}])|(?P<other>\\?\w+|\S)"
)
NO_UNITS = {"and", "or", "so", "which", "is", "are", "then", "but", "because", "with", "for"}
FUNCTIONS = {"sqrt", "log", "ln", "sin", "cos", "tan", "mod", "base", "frac"}


@dataclass(frozen=True)
class Token:
    kind: str
    text: str


@dataclass(frozen=True)
class Side:
    """One side of an equation: its expression, as `evaluate` reads it, and the token after it."""

    expression: str
    end: int

    @property
    def operands(self) -> list[str]:
        return NUMBER.findall(self.expression)


def false_equations(text: str, modulus: int | None = None) -> list[str]:
    """Equations between written numbers that do not hold, in order, as they were read.

    They hold where both sides are equal, by exact arithmetic; where the right one goes on with the
    left one's value, as in 3 + 5 = 8 * 2; where it is rounded or cut to the decimals that it has
    (to a whole number only exactly); where it counts per cent. The left side must calculate, or a
    heading such as "Day 2 = 15" would be one. With a `modulus` all is equal that differs by
    multiples of it, and a bare number on the left counts as well.
    """
    tokens = [Token(str(m.lastgroup), m[0]) for m in TOKEN.finditer(plain_signs(text))]
    false = []
    for place, token in enumerate(tokens):
        if token.kind != "equals":
            continue
        left, right = left_side(tokens, place), right_side(tokens, place + 1)
        if left is None or right is None or (modulus is None and len(left.operands) < 2):
            continue
        if holds(left, right, modulus) is False:
            false.append(f"{left.expression} = {right.expression}")
    return false


def plain_signs(text: str) -> str:
    """LaTeX and other signs of arithmetic as `evaluate` knows them, units as words."""
    for sign, plain in SIGNS.items():
        text = text.replace(sign, f" {plain} ")
    text = POWER.sub(lambda m: f"({'*'.join([m[1]] * int(m[2] or m[3]))})", text)
    for pattern, plain in LATEX:
        text = re.sub(pattern, plain, text)
    while FRACTION.search(text):
        text = FRACTION.sub(fraction, text)
    for pattern, plain in IMPLIED:
        text = re.sub(pattern, plain, text)
    return text


def fraction(match: re.Match[str]) -> str:
    """A fraction of LaTeX in a line; one behind a number is a mixed number."""
    whole, share = match[1], f"(({match[2] or match[4]})/({match[3] or match[5]}))"
    return f"({whole}+{share})" if whole else share


def left_side(tokens: Sequence[Token], equals: int) -> Side | None:
    """The longest expression that ends before an equals sign, unless it goes on to the left."""
    for start in range(max(0, equals - 60), equals):
        side = expression(tokens, start)
        if side is not None and side.end == equals:
            before = tokens[start - 1] if start else Token("end", "")
            bound = before.kind in ("sign", "percent", "other", "number") or before.text == ")"
            minus = tokens[start].text == "-" and before.kind == "word"
            return None if bound or minus or before.text.lower() in FUNCTIONS else side
    return None


def right_side(tokens: Sequence[Token], start: int) -> Side | None:
    """The expression after an equals sign, unless it goes on with what is no arithmetic."""
    side = expression(tokens, start)
    if side is None or side.end == len(tokens):
        return side
    after = tokens[side.end]
    mixed = after.text == "and" and tokens[side.end - 1].kind == "number"  # 16 and 2/3
    goes_on = after.kind in ("sign", "percent", "other", "number")
    return None if mixed or goes_on else side


def expression(tokens: Sequence[Token], start: int) -> Side | None:
    """The longest expression that starts at a token: numbers with units, signs and brackets."""
    written, depth, place, longest = "", 0, start, None
    while place < len(tokens):
        while place < len(tokens) and tokens[place].text in ("-", "("):
            depth += tokens[place].text == "("
            written, place = written + tokens[place].text, place + 1
        if place == len(tokens) or tokens[place].kind != "number":
            break
        percent = tokens[place + 1 : place + 2] == [Token("percent", "%")]
        written += f"({tokens[place].text}%)" if percent else tokens[place].text
        place = units(tokens, place + 1 + percent)
        while place < len(tokens) and depth and tokens[place].text == ")":
            depth, written, place = depth - 1, written + ")", units(tokens, place + 1)
        if not depth:
            longest = Side(arithmetic(written), place)
        if place == len(tokens) or tokens[place].kind != "sign":
            break
        written, place = written + f" {tokens[place].text} ", place + 1
    return longest


def units(tokens: Sequence[Token], place: int) -> int:
    """Where the unit behind a number ends: up to four words, the last perhaps behind a stroke."""
    for _ in range(4):
        rest = tokens[place : place + 2]
        stroke = len(rest) == 2 and rest[0].text == "/" and rest[1].kind == "word"
        if not stroke and not (rest and rest[0].kind == "word"):
            break
        if rest[stroke].text.lower() in NO_UNITS | FUNCTIONS:
            break
        place += 1 + stroke
    return place


def holds(left: Side, right: Side, modulus: int | None) -> bool | None:
    """Whether an equation holds; None where a side has no value, as after dividing by zero."""
    one, share = evaluate(plain_percent(left)), evaluate(left.expression.replace("%", "/100"))
    other = evaluate(plain_percent(right))
    if one is None or share is None or other is None:
        return None
    values = [one, share]
    if "%" in left.expression + right.expression:
        values.append(share * 100)
    reached, decimals = [other], 0
    if len(right.operands) > 1:
        reached += [Fraction(first[0]) for first in [NUMBER.match(right.expression)] if first]
    else:
        decimals = len(right.operands[0].partition(".")[2])
    if modulus is not None:
        return any((value - each) % modulus == 0 for value in values for each in reached)
    slack = Fraction(1, 10**decimals) if decimals else Fraction(0)
    return any(v == each or abs(v - each) < slack for v in values for each in reached)


def plain_percent(side: Side) -> str:
    """The expression with 25 % as 25, for those who write so."""
    return side.expression.replace("%", "")
