"""A task whose circuit the literature has taken apart, as prompt pairs and named positions."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor

from scripts.known import prompts
from tracking import PromptPairs
from tracking.pairs.prompt_pairs import last_position


@dataclass(frozen=True)
class HeadClass:
    """Heads as a paper describes them: where they attend, what they do with the token that they
    read, and what the behaviour loses without them."""

    name: str
    query: str  # a position's name: from there they attend
    key: str  # to there
    copies: int | None  # 1: writes for the token read, -1: against it, 0: neither, None: unsaid
    sign: int  # of their effect on the behaviour
    role: str = ""  # the score of `tracking.nodes.roles` that says the same, if any


@dataclass(frozen=True)
class Wire:
    """Edges from a class of heads to what another class reads, to MLPs or to `logits`."""

    source: str
    target: str  # "logits", "MLPs", or a class
    read: str = ""  # "q", "k" or "v" of that class


@dataclass(frozen=True)
class Task:
    """Prompt pairs, and what the literature says of the heads that do them."""

    name: str
    pairs: PromptPairs
    right: tuple[
        frozenset[int], ...
    ]  # of every pair, the tokens that are right after its clean prompt
    places: dict[str, Tensor]  # LongTensor [pair] each: positions by name, END among them
    classes: tuple[HeadClass, ...]
    wires: tuple[Wire, ...]


# Indirect objects: Wang et al. 2022, arXiv 2211.00593. A suppressor there is the mechanism of a
# negative name mover (McDougall et al. 2023, arXiv 2310.04625), turned on the subject.
GIVERS = (
    HeadClass("name mover", "END", "IO", copies=1, sign=1, role="copying"),
    HeadClass("negative name mover", "END", "IO", copies=-1, sign=-1, role="copying"),
    HeadClass("S-inhibition", "END", "S2", copies=0, sign=1),
    HeadClass("subject suppressor", "END", "S2", copies=-1, sign=1),
    HeadClass("induction", "S2", "S1+1", copies=None, sign=1, role="induction"),
    HeadClass("duplicate token", "S2", "S1", copies=None, sign=1, role="duplicate_token"),
    HeadClass("previous token", "S1+1", "S1", copies=None, sign=1, role="previous_token"),
)
GIVEN = (
    Wire("name mover", "logits"),
    Wire("negative name mover", "logits"),
    Wire("subject suppressor", "logits"),
    Wire("S-inhibition", "name mover", "q"),
    Wire("S-inhibition", "negative name mover", "q"),
    Wire("duplicate token", "S-inhibition", "v"),
    Wire("induction", "S-inhibition", "v"),
    Wire("duplicate token", "subject suppressor", "k"),
    Wire("induction", "subject suppressor", "k"),
    Wire("name mover", "negative name mover", "q"),
    Wire("subject suppressor", "negative name mover", "q"),
    Wire("previous token", "induction", "k"),
)


def indirect_objects(tokenizer: Any, count: int, swapped: bool) -> Task:
    """Who is given something: the corrupted prompt names the object where the clean one names the
    subject again (`swapped`), so that the other name is right, or has three other names."""
    rows = prompts.sentences(Random(0), count)
    pairs = PromptPairs.from_text(
        tokenizer,
        [
            (
                row.text,
                row.swapped if swapped else row.others,
                f" {row.indirect}",
                f" {row.subject}",
            )
            for row in rows
        ],
    )
    assert pairs.labels is not None
    indirect, subject = pairs.labels.unbind(1)
    first = nth(pairs, subject, 0)
    return Task(
        "indirect object, S2 swapped" if swapped else "indirect object, other names",
        pairs,
        right=tuple(frozenset([token]) for token in indirect.tolist()),
        places={
            "first": torch.zeros_like(first),
            "IO": nth(pairs, indirect, 0),
            "S1": first,
            "S1+1": first + 1,
            "S2": nth(pairs, subject, 1),
            "END": last_position(pairs),
        },
        classes=GIVERS,
        wires=GIVEN,
    )


REPEATERS = (
    HeadClass("induction", "END", "A+1", copies=None, sign=1, role="induction"),
    HeadClass("duplicate token", "END", "A", copies=None, sign=0, role="duplicate_token"),
    HeadClass("previous token", "A+1", "A", copies=None, sign=1, role="previous_token"),
)  # Olsson et al. 2022, arXiv 2209.11895
REPEATED = (Wire("induction", "logits"), Wire("previous token", "induction", "k"))
FIRST_HALF, CUE = 12, 7  # random words, and which of them is the last that is said again


def repeated_tokens(tokenizer: Any, count: int) -> Task:
    """Random words said again up to word A: what followed it comes next. In the corrupted prompt A
    has changed places with a later word of the first half, so that what follows there is right.

    They begin with what separated documents in training: without it the model is much worse.
    """
    random, words = Random(0), lower_case_words(tokenizer)
    begin = [tokenizer.convert_tokens_to_ids("<|endoftext|>")]
    clean, corrupted, labels = [], [], []
    for _ in range(count):
        half = random.sample(words, FIRST_HALF)
        other = random.randrange(CUE + 2, FIRST_HALF - 1)
        exchanged = list(half)
        exchanged[CUE], exchanged[other] = half[other], half[CUE]
        again = half[: CUE + 1]
        clean.append(begin + half + again)
        corrupted.append(begin + exchanged + again)
        labels.append((half[CUE + 1], half[other + 1]))
    pairs = PromptPairs(torch.tensor(clean), torch.tensor(corrupted), labels=torch.tensor(labels))
    cue = torch.full((count,), len(begin) + CUE)
    return Task(
        "induction, random words",
        pairs,
        right=tuple(frozenset([token]) for token, _ in labels),
        places={"first": 0 * cue, "A": cue, "A+1": cue + 1, "END": last_position(pairs)},
        classes=REPEATERS,
        wires=REPEATED,
    )


YEARS = (
    HeadClass("year reader", "END", "decade", copies=None, sign=1, role="induction"),
)  # Hanna et al. 2023, arXiv 2305.00586
READ = (Wire("year reader", "MLPs"), Wire("year reader", "logits"))


def greater_than(tokenizer: Any, count: int) -> Task:
    """In which decade something ended that began in a late one, against an early one. Right are
    digits not below the decade's; the tokenizer makes every digit a token."""
    rows = prompts.years(Random(0), count)
    pairs = PromptPairs.from_text(
        tokenizer,
        [
            (row.late, row.early, str(row.late_decade + 1), str(row.early_decade + 1))
            for row in rows
        ],
    )
    digits = tokenizer.convert_tokens_to_ids(list("0123456789"))
    differ = (pairs.clean != pairs.corrupted).int().argmax(-1)
    return Task(
        "greater-than, decades",
        pairs,
        right=tuple(frozenset(digits[row.late_decade :]) for row in rows),
        places={
            "first": 0 * differ,
            "century": differ - 1,
            "decade": differ,
            "END": last_position(pairs),
        },
        classes=YEARS,
        wires=READ,
    )


def nth(pairs: PromptPairs, tokens: Tensor, place: int) -> Tensor:
    """LongTensor [pair]: where each clean prompt has its token of `tokens` [pair] for the first
    time, or a later one."""
    there = pairs.clean == tokens[:, None]
    return (there & (there.cumsum(-1) == place + 1)).int().argmax(-1)


def lower_case_words(tokenizer: Any) -> list[int]:
    """Tokens that are a word of 4 to 8 small letters after a space."""
    texts = enumerate(tokenizer.batch_decode([[index] for index in range(len(tokenizer))]))
    return [
        index
        for index, text in texts
        if text[:1] == " " and text[1:].isascii() and text[1:].isalpha() and text.islower()
        and 4 <= len(text) - 1 <= 8
    ]  # fmt: skip
