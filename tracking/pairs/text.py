"""One prompt pair from text: two prompts, their right continuations, and where these part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tracking.errors import BadInput

# One pair, from text


@dataclass(frozen=True)
class Pair:
    """One pair before padding: `clean` and `corrupted` are token ids, as many in one as in the
    other; `correct` and `incorrect` the next token after each; `text` both, readable, the target
    in brackets."""

    clean: tuple[int, ...]
    corrupted: tuple[int, ...]
    correct: int
    incorrect: int
    text: tuple[str, str]


@dataclass(frozen=True)
class Dropped:
    """What stands in a pair's place where none could be made, and why."""

    reason: str


def pair_at_first_difference(
    tokenizer: Any, clean: tuple[str, str], corrupted: tuple[str, str]
) -> Pair | Dropped:
    """The pair that ends where the right continuations of two prompts part.

    `clean` and `corrupted` are each a prompt and its continuation, chat template and all; no
    special tokens are added. Prompt and continuation are tokenized as one text, as the model
    would have met it, and a token over the boundary counts as the continuation's. Needs a fast
    tokenizer (character offsets); raises BadInput with another.
    """
    clean_ids, clean_start = tokenize(tokenizer, *clean)
    corrupted_ids, corrupted_start = tokenize(tokenizer, *corrupted)
    if clean_ids[:clean_start] == corrupted_ids[:corrupted_start]:
        return Dropped("prompts do not differ")
    continuations = zip(clean_ids[clean_start:], corrupted_ids[corrupted_start:], strict=False)
    shared = next((i for i, (a, b) in enumerate(continuations) if a != b), None)
    if shared is None:
        return Dropped("continuations do not differ")
    if clean_start != corrupted_start:
        return Dropped("unequal token length before the target")
    end = clean_start + shared
    return Pair(
        clean=tuple(clean_ids[:end]),
        corrupted=tuple(corrupted_ids[:end]),
        correct=clean_ids[end],
        incorrect=corrupted_ids[end],
        text=(readable(tokenizer, clean_ids, end), readable(tokenizer, corrupted_ids, end)),
    )


def tokenize(tokenizer: Any, prompt: str, continuation: str) -> tuple[list[int], int]:
    """Token ids of both as one text, and the index of the continuation's first token."""
    if not getattr(tokenizer, "is_fast", False):
        raise BadInput(f"{type(tokenizer).__name__} has no character offsets: use a fast tokenizer")
    encoded = tokenizer(
        prompt + continuation, add_special_tokens=False, return_offsets_mapping=True
    )
    ends = (end for _, end in encoded["offset_mapping"])
    start = next((i for i, end in enumerate(ends) if end > len(prompt)), len(encoded["input_ids"]))
    return list(encoded["input_ids"]), start


def padding(tokenizer: Any) -> int:
    """The token id that fills prompts up: never read, so any will do for a tokenizer without."""
    ids = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(token for token in ids if token is not None)


def readable(tokenizer: Any, ids: Sequence[int], end: int) -> str:
    return f"{tokenizer.decode(ids[:end])}⟦{tokenizer.decode(ids[end : end + 1])}⟧"


def choose(
    candidates: Iterable[Pair | Dropped], contrast: str, count: int, minimum: int
) -> list[Pair]:
    """The first `count` usable pairs; no more are made than that takes.

    Raises BadInput where fewer than `minimum` are usable, with the reasons why the others were
    dropped; `contrast` names the pairs in that message.
    """
    usable: list[Pair] = []
    dropped: Counter[str] = Counter()
    for pair in candidates:
        if isinstance(pair, Dropped):
            dropped[pair.reason] += 1
        else:
            usable.append(pair)
        if len(usable) >= count:
            break
    if len(usable) < minimum:
        reasons = ", ".join(f"{times} {reason}" for reason, times in dropped.most_common())
        total = len(usable) + dropped.total()
        raise BadInput(
            f"pairs '{contrast}': {len(usable)} usable pairs of {total} (need at least {minimum})"
            + (f"; dropped: {reasons}" if reasons else "")
        )
    return usable
