"""Numbers in text: where they stand, what they are worth, and which can be changed safely."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache

# Numbers in text

NUMBER = re.compile(r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+")


@dataclass(frozen=True)
class Number:
    """A number where it stands in a text: `text` is the slice from `start` to `end`."""

    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @cached_property
    def value(self) -> Fraction:
        return Fraction(self.text.replace(",", ""))


def numbers(text: str) -> list[Number]:
    """Every number in a text, in order; signs and units are not part of it."""
    return [Number(match.group(), match.start()) for match in NUMBER.finditer(text)]


def values(text: str) -> list[Fraction]:
    return [number.value for number in numbers(text)]


def restyle(text: str, value: Fraction) -> str | None:
    """`value` written as the number `text` is written, in as many characters, or None."""
    decimals = len(text.partition(".")[2])
    scaled = value * 10**decimals
    if scaled.denominator != 1 or value < 0:
        return None
    digits = str(scaled.numerator).zfill(decimals + (not text.startswith(".")))
    whole = digits[: len(digits) - decimals]
    written = f"{int(whole):,}" if "," in text else whole
    written += f".{digits[len(whole) :]}" if decimals else ""
    return written if len(written) == len(text) else None


# In a question, beside a number that is more, or other, than its digits.
NOT_ITS_DIGITS_BEFORE = re.compile(
    r"[\w.,:/^_{\\\u2013-]$|\b(?:half|quarter|third) of an? $"
    r"|\ban? $",  # "an 8" would become "an 9"
    re.IGNORECASE,
)
NOT_ITS_DIGITS_AFTER = re.compile(
    r"\s*\\?%|[\w^/:!(°]|[,\u2013-]\d|\\[a-zA-Z]|\s*(?:percent|point)\b"
    r"|\s+(?:hundred|thousand|million|billion|dozen|[ap]\.?m\b|o'clock)"
    r"|\s+(?:and\s+)?(?:a\s+half|a\s+quarter|\d+/\d|one[- ]half|\\frac)",
    re.IGNORECASE,
)
# In a solution, where `48x2` and `48/2` are operations.
NOT_COPIED_BEFORE = re.compile(
    r"(?:[a-wyz\d.,:^_]|[\^_]\{|\b(?:step|case|day|part) |\n#)$", re.IGNORECASE
)
NOT_COPIED_AFTER = re.compile(
    r"\s*\\?%|[a-wyz^!:_]|\s+(?:hundred|thousand|million|dozen)", re.IGNORECASE
)
LIST_MARKER = re.compile(r"(?:^|\n)[\s*(]*$")

IMPLIED: dict[str, tuple[str, ...]] = {
    r"one|once|first|single": ("1",),
    r"two|twice|doubl\w*|pair\w*|couple|both|second\w*|half\w*|halves|another": ("2", "0.5", "1.5"),
    r"three|thrice|tripl\w*|thirds?": ("3", "1/3", "2/3"),
    r"four|fourths?|quarters?|quadrupl\w*": ("4", "0.25", "0.75", "25"),
    r"five|fifths?|nickels?": ("5", "0.2", "0.05"),
    r"six|sixths?": ("6",),
    r"seven|sevenths?|weeks?|weekly|daily|days?": ("7",),
    r"eight|eighths?": ("8",),
    r"nine|ninths?": ("9",),
    r"ten|tenths?|dimes?|decades?": ("10", "0.1"),
    r"eleven": ("11",),
    r"twelve|dozens?|months?|monthly|years?|yearly|annual\w*|feet|foot|inch\w*": ("12",),
    r"thirteen": ("13",),
    r"fourteen": ("14",),
    r"fifteen": ("15",),
    r"sixteen|pounds?|ounces?": ("16",),
    r"seventeen": ("17",),
    r"eighteen": ("18",),
    r"nineteen": ("19",),
    r"twenty": ("20",),
    r"thirty|months?": ("30",),
    r"forty": ("40",),
    r"fifty": ("50",),
    r"days?|daily|hours?": ("24",),
    r"weekdays?|weekends?": ("5", "2"),
    r"hours?|hourly|minutes?|seconds?": ("60",),
    r"months?|weeks?|years?": ("4", "52", "365"),
    r"yards?": ("3",),
    r"cents?|percent\w*|hundred|dollars?|centimeters?|meters?": ("100",),
}
"""Values that a solution may use because of a word in the question, not a number in it."""


@lru_cache(maxsize=1024)
def implied_values(question: str) -> frozenset[Fraction]:
    """What the question's words and percentages, not its plain numbers, may bring in."""
    brought_in = {
        Fraction(value)
        for words, brought in IMPLIED.items()
        if re.search(rf"\b(?:{words})\b", question, re.IGNORECASE)
        for value in brought
    }
    for match in re.finditer(rf"({NUMBER.pattern})\s*(?:\\?%|percent)", question):
        share = Fraction(match.group(1).replace(",", "")) / 100
        brought_in |= {
            share,
            1 - share,
            1 + share,
            100 - 100 * share,
            100 + 100 * share,
            Fraction(100),
        }
    return frozenset(brought_in)


def changeable(question: str) -> list[Number]:
    """The numbers that can be changed with only one reading of what they were."""
    if "[asy]" in question:
        return []
    every, implied = values(question), implied_values(question)
    return [
        number
        for number in numbers(question)
        if every.count(number.value) == 1
        and number.value not in implied
        and number.value > 1  # "1 apple" would become "7 apple"
        and not NOT_ITS_DIGITS_BEFORE.search(question[: number.start])
        and not NOT_ITS_DIGITS_AFTER.match(question[number.end :])
    ]


def digit_swaps(number: Number, question: str) -> list[str]:
    """Every way to write the number with one other digit.

    A first digit does not become 0, nor a last decimal, and the number does not become 1 or one
    that the question has or implies already.
    """
    used = {Fraction(0), Fraction(1), *values(question), *implied_values(question)}
    swaps = []
    for place, digit in enumerate(number.text):
        if not digit.isdigit() or (place == 0 and digit == "0"):
            continue
        ends = place == 0 or ("." in number.text and place == len(number.text) - 1)
        others = "123456789" if ends else "0123456789"
        swaps += [number.text[:place] + other + number.text[place + 1 :] for other in others]
    return [swap for swap in swaps if Fraction(swap.replace(",", "")) not in used]


def first_difference(one: str, other: str) -> int:
    return next(i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
