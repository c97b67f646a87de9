"""The texts of the tasks: names, verbs, templates, years; every word that is filled in is one token
of SmolLM2 (a digit is one, too)."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

NAMES = [
    "Michael", "Jessica", "Matthew", "Jennifer", "Daniel", "David", "James", "Robert", "John",
    "Joseph", "Andrew", "Sarah", "William", "Brian", "Nicole", "Anthony", "Eric", "Elizabeth",
    "Adam", "Kevin", "Thomas", "Rachel", "Laura", "Richard", "Amy", "Mark", "Emily", "Aaron",
    "Charles", "Paul", "Angela", "Scott", "Mary", "Lisa", "Anna", "Alice", "Tom", "Jack",
    "Peter", "Martin", "Simon", "Maria", "Susan", "George", "Frank", "Henry", "Emma", "Jane",
    "Helen", "Ruth", "Luke", "Max", "Ben", "Dan",
]  # fmt: skip
PLACES = [
    "store", "park", "school", "hospital", "office", "station", "garden", "house", "restaurant",
    "beach", "market",
]  # fmt: skip
OBJECTS = [
    "drink", "ring", "kiss", "book", "bone", "ball", "necklace", "gift", "letter", "apple",
    "cake", "flower", "key", "map",
]  # fmt: skip
EVENTS = [
    "war", "conflict", "siege", "campaign", "expedition", "voyage", "reign", "dynasty",
    "debate", "journey",
]  # fmt: skip
DAYS = [
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
]  # fmt: skip
MONTHS = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
]  # fmt: skip

GIVING = (
    "When {0} and {1} went to the {place}, {2} gave a {thing} to",
    "Then, {0} and {1} went to the {place}. {2} gave a {thing} to",
)
LASTING = "The {event} lasted from {century}{decade}{year} to {century}"
FOLLOWING = {
    "day": "Today is {}. Tomorrow will be",
    "month": "If this month is {}, then next month is",
}


@dataclass(frozen=True)
class Sentence:
    """Who gives something to whom, where two are named: by Wang et al. 2022 (arXiv 2211.00593)."""

    text: str
    indirect: str  # the object, which comes next
    subject: str  # the name that is there twice
    swapped: str  # the same text with the object's name where the subject is named again
    others: str  # the same text with three other names


def sentences(random: Random, count: int) -> list[Sentence]:
    """ABBA and BABA in turn, both in either template."""
    return [sentence(random, place % 2 == 0, GIVING[place // 2 % 2]) for place in range(count)]


def sentence(random: Random, object_first: bool, template: str) -> Sentence:
    indirect, subject, *others = random.sample(NAMES, 5)
    words = {"place": random.choice(PLACES), "thing": random.choice(OBJECTS)}  # fmt: skip
    two = (indirect, subject) if object_first else (subject, indirect)
    return Sentence(
        text=template.format(*two, subject, **words),
        indirect=indirect,
        subject=subject,
        swapped=template.format(*two, indirect, **words),
        others=template.format(*others, **words),
    )


@dataclass(frozen=True)
class Years:
    """Two events that begin in other decades of a century; by Hanna et al. 2023 (2305.00586)."""

    late: str
    early: str
    late_decade: int
    early_decade: int


def years(random: Random, count: int) -> list[Years]:
    """The decade after the early one is before the late one: it cannot end the late event."""
    return [lasting(random) for _ in range(count)]


def lasting(random: Random) -> Years:
    late = random.randrange(4, 9)
    early = random.randrange(1, late - 1)
    words = {"event": random.choice(EVENTS), "century": random.randrange(11, 19),
             "year": random.randrange(10)}  # fmt: skip
    late_text, early_text = (LASTING.format(decade=decade, **words) for decade in (late, early))
    return Years(late_text, early_text, late, early)


def followers() -> list[tuple[str, str, str]]:
    """Of every day and month: which it is, a prompt that asks what follows it, and what does."""
    return [
        (kind, FOLLOWING[kind].format(word), following)
        for kind, words in (("day", DAYS), ("month", MONTHS))
        for word, following in zip(words, [*words[1:], words[0]], strict=True)
    ]
