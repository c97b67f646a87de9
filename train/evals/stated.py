"""The answers that a response states: boxed, behind `####`, named as the answer, or where it ends.

Grading takes the last of what it can read, also a number in the middle of a calculation that was
cut off. Here only what is given as an answer counts, and each time that one is given.
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import islice

from train.gym.answers import SIGNED, is_number

NESTED = r"(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*"
BOXED = re.compile(rf"\\boxed\s*\{{({NESTED})\}}")
NAMED = re.compile(
    rf"####\s*(?P<marked>[^\n]+)|\\boxed\s*\{{(?P<boxed>{NESTED})\}}"
    r"|(?i:\banswer(?:\s+(?!is\b)[a-z]+){0,3}?\s*(?:\bis\b|[:=]))(?P<named>(?:\.\d|[^.\n])*)"
    rf"|(?P<before>{SIGNED.pattern})[^.\n\d]{{0,24}}\bis (?:indeed )?(?:the|a valid) answer"
)
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n")


def boxed(text: str) -> list[str]:
    """What stands in the `\\boxed{}` of a text, where something does."""
    return [content.strip() for content in BOXED.findall(text) if content.strip()]


def stated(text: str, cut_off: bool) -> list[str]:
    """The answers that a text states, in order, as they are written; where it states none and was
    not cut off, the number that its last sentence with a number comes to."""
    said = []
    for match in NAMED.finditer(text):
        whole = match["boxed"] or match["before"]
        inside = boxed(match["marked"] or match["named"] or "")
        clause = inside[0] if inside else comes_to(match["marked"] or match["named"] or "")
        said += [part.strip() for part in [whole or clause] if part and part.strip()]
    if not said and not cut_off:
        ends = filter(None, map(comes_to, reversed(SENTENCE.split(text))))
        said = [*islice(ends, 1)]
    return said


def comes_to(clause: str) -> str | None:
    """The number that a clause comes to: behind its last equals sign, or its first."""
    numbers = SIGNED.findall(clause.rpartition("=")[2]) or SIGNED.findall(clause)
    return numbers[0] if numbers else None


def same(one: str, right: str) -> bool:
    """Whether two answers are the same: as numbers, without units, or letter by letter."""
    one, right = (re.sub(r"[\s$]|\\[,!$]|\\left|\\right", "", each) for each in (one, right))
    right = right.replace(",", "") if is_number(right) else right
    if is_number(right):
        numbers = SIGNED.findall(one)
        return len(numbers) == 1 and Fraction(numbers[0].replace(",", "")) == Fraction(right)
    return one.replace("dfrac", "frac") == right.replace("dfrac", "frac")
