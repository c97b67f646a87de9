"""Numbers in text: where they stand, what they are worth, and what words bring in besides."""

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
    rounder = decimals and written.endswith("0") and not text.endswith("0")  # nobody writes 8.0
    return written if len(written) == len(text) and not rounder else None


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


def digit_swaps(number: Number) -> list[str]:
    """Every way to write the number with one other digit; a first digit does not become 0, nor a
    last decimal."""
    swaps = []
    for place, digit in enumerate(number.text):
        if not digit.isdigit() or (place == 0 and digit == "0"):
            continue
        ends = place == 0 or ("." in number.text and place == len(number.text) - 1)
        others = "123456789" if ends else "0123456789"
        swaps += [number.text[:place] + other + number.text[place + 1 :] for other in others]
    return [swap for swap in swaps if swap != number.text]


def first_difference(one: str, other: str) -> int:
    return next(i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
