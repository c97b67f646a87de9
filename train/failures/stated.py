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


def stated(text: str, right: str, cut_off: bool) -> list[str]:
    """The answers that a text states, in order, as they are written; where it states none and was
    not cut off, what its last sentence comes to.

    Where the `right` answer is a number, only a number is one, in the last sentence that has some.
    """
    answers = []
    for match in NAMED.finditer(text):
        clause = match["marked"] or match["named"] or ""
        inside = match["boxed"] or match["before"] or "".join(boxed(clause)[:1])
        answers.append(inside.strip() or comes_to(clause, right))
    answers = list(filter(None, answers))
    if not answers and not cut_off:
        ends = (comes_to(sentence, right) for sentence in reversed(SENTENCE.split(text)))
        answers = list(islice(filter(None, ends), 1))
    return answers


def comes_to(clause: str, right: str) -> str:
    """What a clause comes to, "" where to nothing: the number behind its last equals sign, or its
    first; all of it where the right answer is no number."""
    if not is_number(right):
        return clause.replace(r"\boxed{}", "").strip(" .:*")
    numbers = SIGNED.findall(clause.rpartition("=")[2]) or SIGNED.findall(clause)
    return numbers[0] if numbers else ""


def same(one: str, right: str) -> bool:
    """Whether two answers are the same: as numbers, without units, or letter by letter."""
    one, right = (re.sub(r"[\s$]|\\[,!$]|\\left|\\right", "", each) for each in (one, right))
    right = right.replace(",", "") if is_number(right) else right
    if is_number(right):
        numbers = SIGNED.findall(one)
        return len(numbers) == 1 and Fraction(numbers[0].replace(",", "")) == Fraction(right)
    return one.replace("dfrac", "frac") == right.replace("dfrac", "frac")
