"""Responses labelled by hand, and what the rules make of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tests.builders.paths import REPO
from train.failures.labels import Response, failures

JUDGED = (
    "loop",
    "arithmetic slip",
    "no answer",
    "wrong format",
    "changed after it was right",
)
"""The labels that a text is read for: that it was cut off, or is long, is known."""


@dataclass(frozen=True)
class Labelled:
    """A response with its labels by hand, where it comes from, and which of three parts of the
    set it is in: the rules were made on the first, that for loops on the first two."""

    response: Response
    labels: frozenset[str]
    source: str
    part: int

    @cached_property
    def called(self) -> frozenset[str]:
        return failures(self.response, None)

    def held_out(self, label: str) -> bool:
        return self.part > (2 if label == "loop" else 1)


@dataclass(frozen=True)
class Outcome:
    """Of so many responses: those that a rule calls by a label, those that have it, and both."""

    responses: int
    called: int
    there: int
    right: int


def labelled_responses() -> list[Labelled]:
    lines = (REPO / "tests/train/failures/responses.jsonl").read_text().splitlines()
    return [_labelled(json.loads(line)) for line in lines]


def _labelled(row: dict) -> Labelled:
    fields = ("text", "answer", "right", "cut_off", "length", "format")
    modulus = 10 if row["task"] == "tiny" else None
    response = Response(**{name: row[name] for name in fields}, modulus=modulus)
    return Labelled(response, frozenset(row["labels"]), row["source"], row["part"])


def outcome(label: str, responses: Sequence[Labelled]) -> Outcome:
    called = [label in each.called for each in responses]
    there = [label in each.labels for each in responses]
    right = sum(one and other for one, other in zip(called, there, strict=True))
    return Outcome(len(responses), sum(called), sum(there), right)
