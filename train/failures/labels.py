"""What went wrong in a response, by rules on its text. Several labels may hold, or none.

How far each rule can be trusted, against responses labelled by hand, stands in docs/labels.md.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from train.failures.equations import false_equations
from train.failures.stated import boxed, same, stated
from train.tiny.task import answer_of

LABELS = (
    "loop",
    "arithmetic slip",
    "cut off",
    "no answer",
    "wrong format",
    "changed after it was right",
    "long",
)
Format = Literal["boxed", "digit", "any"]
"""The form that a task asks an answer in: `\\boxed{}`, the tiny task's `####d` at the end, or none
in particular."""

WORDS = 10  # of a passage that is said again
TIMES = 3
LOOKED_AT = 48  # words and signs at the end
REPEATED = 0.7  # share of them
SQUEEZED = 2.4  # times smaller by zlib; LaTeX alone repeats itself without being stuck


@dataclass(frozen=True)
class Response:
    """A response and what grading said of it.

    text: without special tokens
    answer: the right one
    right: whether it was graded right, None where it could not be
    cut_off: whether it ended at the limit of tokens
    length: its tokens
    format: the form that the answer was asked in
    modulus: of the task's arithmetic, None for the usual one
    """

    text: str
    answer: str
    right: bool | None
    cut_off: bool
    length: int
    format: Format
    modulus: int | None = None


def failures(response: Response, median_right: float | None) -> frozenset[str]:
    """Those of `LABELS` that hold for a response.

    `median_right`: the median length of the right responses to its benchmark, in tokens; None
    where there is none, and nothing is called long.
    """
    thoughts, _, last = response.text.rpartition("</think>")
    thought = answers(thoughts, response, cut_off=True)
    answered = answers(last, response, response.cut_off)
    applies = {
        "loop": loops(response.text),
        "arithmetic slip": bool(false_equations(response.text, response.modulus)),
        "cut off": response.cut_off,
        "no answer": not answered,
        "wrong format": bool(answered) and not in_form(last, response.format),
        "changed after it was right": not response.right
        and changed(thought + answered, response.answer),
        "long": median_right is not None and response.length > 2 * median_right,
    }
    return frozenset(name for name in LABELS if applies[name])


def answers(text: str, response: Response, cut_off: bool) -> list[str]:
    """The answers that a part of a response states, in order; the tiny task's are the digits
    behind `####`."""
    digits = response.format == "digit"
    return re.findall(r"####(\d)", text) if digits else stated(text, response.answer, cut_off)


def in_form(text: str, form: Format) -> bool:
    """Whether a text has an answer in the form that was asked."""
    if form == "digit":
        return answer_of(text) is not None
    return form == "any" or bool(boxed(text))


def changed(answers: Sequence[str], right: str) -> bool:
    """Whether the right answer was stated, and another one in the end."""
    each = [same(one, right) for one in answers]
    return any(each) and not each[-1]


def loops(text: str) -> bool:
    """Whether most of a text's end is passages of ten words that it says three times or more,
    whatever the numbers in them (a loop often counts), and the text compresses well."""
    if len(text) <= SQUEEZED * len(zlib.compress(text.encode())):
        return False
    unnumbered = re.sub(r"\d[\d,.]*\d|\d", "0", re.sub(r"(?m)^\s*\d+[.)]\s", "", text))
    words = re.findall(r"\w+|[^\w\s]", unnumbered)
    passages = [tuple(words[i : i + WORDS]) for i in range(len(words) - WORDS + 1)]
    times, repeated = Counter(passages), [False] * len(words)
    for start, passage in enumerate(passages):
        if times[passage] >= TIMES:
            repeated[start : start + WORDS] = [True] * WORDS
    return sum(repeated[-LOOKED_AT:]) > REPEATED * LOOKED_AT
