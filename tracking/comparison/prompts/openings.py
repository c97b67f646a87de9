"""The contrast `opening`: one question, and how each of two models begins to answer it.

Clean is the question with the opening that model A wrote, corrupted the same question with that of
model B (Park et al. 2025, arXiv 2509.25758, who exchange the two for B). The openings are cut to
equal length: to their first n tokens, n being the fewest from `length` on at which the openings
differ and go on with different tokens. These two tokens are the labels: right is what the writer
of an opening wrote next. So labels are of the text and not of the model that reads it, and the
same behaviour, going on as one has begun, is asked of both models.
"""

from __future__ import annotations

from typing import Any

from tracking.pairs.prompt_pairs import PromptPairs
from tracking.pairs.text import Dropped, Pair, readable, tokenize

LENGTH = 8
"""Tokens of an opening, at least: `Okay, so I have this problem`."""


def opening_pair(
    tokenizer: Any, prompt: str, first: str, second: str, length: int = LENGTH
) -> Pair | Dropped:
    """The pair of one prompt, chat template and all, and two models' answers to it, or why there is
    none: clean with the opening of the `first` answer, corrupted with that of the `second`.

    Needs a fast tokenizer (character offsets); raises `BadInput` with another.
    """
    clean, start = tokenize(tokenizer, prompt, first)
    corrupted, other_start = tokenize(tokenizer, prompt, second)
    if clean[:start] != corrupted[:other_start]:
        return Dropped("a token spans the prompt and an opening")
    shorter, least = min(len(clean), len(corrupted)), start + length
    if clean[:shorter] == corrupted[:shorter]:
        return Dropped("both models open alike")
    if shorter <= least:
        return Dropped("an answer ends within its opening")
    parted = (
        end
        for end in range(least, shorter)
        if clean[end] != corrupted[end] and clean[start:end] != corrupted[start:end]
    )
    end = next(parted, None)
    if end is None:
        return Dropped("both openings go on with the same token")
    return Pair(
        clean=tuple(clean[:end]),
        corrupted=tuple(corrupted[:end]),
        correct=clean[end],
        incorrect=corrupted[end],
        text=(readable(tokenizer, clean, end), readable(tokenizer, corrupted, end)),
    )


def swapped(pairs: PromptPairs) -> PromptPairs:
    """The same pairs with clean and corrupted exchanged, and their labels with them.

    By the logit difference the behaviour is the same, `corrupt` and `restore` of every node change
    places, and EAP-IG scores stay as they are: only a metric that is measured from the clean side,
    like the KL to its output, sees which opening is clean.
    """
    return PromptPairs(
        clean=pairs.corrupted,
        corrupted=pairs.clean,
        attention_mask=pairs.attention_mask,
        labels=None if pairs.labels is None else pairs.labels.flip(1),
        supervised=pairs.supervised,
        texts=tuple((corrupted, clean) for clean, corrupted in pairs.texts),
    )
