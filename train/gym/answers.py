"""The answer in what a model writes, before a generator's scorer sees it.

Scorers want the bare answer, or take what they should not: the first number of a text, say, or one
without its minus.
"""

from __future__ import annotations

import re

from tracking.pairs.numbers import NUMBER

TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
# A minus behind a digit or a bracket subtracts.
SIGNED = re.compile(rf"(?:(?<![\w)])(?<![\d)] )-)?(?:{NUMBER.pattern})")


def extracted(completion: str, right: str | None) -> str:
    """What a completion answers, "" where it says nothing of the kind.

    It is what stands between its last `<answer>` tags; else, where the right answer is a number,
    the last number; else all of it. Thoughts (`<think> ... </think>`) are left out first.
    """
    answer = completion.rpartition("</think>")[2]
    if tagged := TAGGED.findall(answer):
        answer = tagged[-1]
    if right is None or not is_number(right):
        return answer.strip()
    numbers = SIGNED.findall(answer.replace("\u2212", "-"))
    return numbers[-1].replace(",", "") if numbers else ""


def is_number(text: str) -> bool:
    """Whether a text is one plain number: 8, -3.5, 1,000."""
    return SIGNED.fullmatch(text) is not None
