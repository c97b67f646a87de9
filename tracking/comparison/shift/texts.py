"""Prompts with their completions, as token ids: what two policies are compared on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tracking.errors import BadInput
from tracking.pairs.prompt_pairs import pad


@dataclass(frozen=True)
class Text:
    """A completion of a prompt.

    prompt: names it; the texts of one prompt are one draw, whoever wrote them
    """

    prompt: str
    writer: str
    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]


@dataclass(frozen=True)
class Texts:
    """Texts padded on the right."""

    token_ids: Tensor  # LongTensor [text, position]
    mask: Tensor  # LongTensor [text, position], 0 on padding
    asks: Tensor  # BoolTensor [text, position]: after which a token of the completion comes; of
    # texts that begin alike, what they share is asked once, of the first
    prompt: Tensor  # LongTensor [text], the number of its prompt, from 0
    writers: tuple[str, ...]

    @classmethod
    def of(cls, texts: Sequence[Text]) -> Texts:
        """Raises `BadInput` where there is none, or one has an empty prompt."""
        if not texts:
            raise BadInput("there is not one text to compare the models on")
        if any(not one.prompt_ids for one in texts):
            raise BadInput("a text has an empty prompt: its first token follows nothing")
        ids = [[*one.prompt_ids, *one.completion_ids] for one in texts]
        asks = [
            [*[0] * (len(one.prompt_ids) - 1), *[1] * len(one.completion_ids), 0] for one in texts
        ]
        seen: set[tuple[int, ...]] = set()
        for row, asked in zip(ids, asks, strict=True):
            contexts = {at: tuple(row[: at + 1]) for at, one in enumerate(asked) if one}
            for at, context in contexts.items():
                asked[at] = int(context not in seen)
            seen.update(contexts.values())
        numbers = {name: i for i, name in enumerate(dict.fromkeys(one.prompt for one in texts))}
        return cls(
            token_ids=pad(ids, 0),
            mask=pad([[1] * len(row) for row in ids], 0),
            asks=pad(asks, 0).bool(),
            prompt=torch.tensor([numbers[one.prompt] for one in texts]),
            writers=tuple(one.writer for one in texts),
        )

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def prompts(self) -> int:
        """How many there are."""
        return int(self.prompt.max()) + 1
