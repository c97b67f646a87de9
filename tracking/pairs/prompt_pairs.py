"""Pairs: clean and corrupted prompts of equal token length, frozen before a run's first step.

What a circuit does is read from the difference between two prompts. They may differ in one
number, or one cue, and in nothing else: as many tokens, every token in its place, so that what a
head wrote on the corrupted prompt can stand in for what it wrote on the clean one. A pair ends
just before the first token at which the two right continuations part; that token is its target.

Scores of two checkpoints compare only if they were read on the same pairs. So a run's pairs are
chosen before step 0, kept in one file (`heads/pairs.safetensors`), and every record carries
their hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tracking.errors import BadInput
from tracking.pairs.pairs_file import Prompt, pairs_from_text, read_pairs
from tracking.pairs.text import Pair, padding


@dataclass(frozen=True, eq=False)
class PromptPairs:
    """Pairs as tensors, one row each; padding may stand on either side.

    clean, corrupted: token ids, LongTensor `[pair, position]`
    attention_mask: 1 on tokens, 0 on padding, LongTensor `[pair, position]`; default all ones
    labels: the correct and the incorrect next token, LongTensor `[pair, 2]`, or None
    supervised: where the metric looks, BoolTensor `[pair, position]`; default the last token of
        each pair that is not padding
    texts: clean and corrupted text of each pair, for people; empty, or one for each pair

    Raises BadInput where these do not fit together.
    """

    clean: Tensor
    corrupted: Tensor
    attention_mask: Tensor = None  # type: ignore[assignment]  # always there once made
    labels: Tensor | None = None
    supervised: Tensor = None  # type: ignore[assignment]
    texts: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for field in fields(self)[:-1]:
            check_tensor(field.name, getattr(self, field.name))
        check_ids(self.clean, self.corrupted)
        mask = torch.ones_like(self.clean) if self.attention_mask is None else self.attention_mask
        check_mask(mask, self.clean.shape)
        where = last_token(mask) if self.supervised is None else self.supervised
        check_supervised(where, mask)
        check_labels(self.labels, len(self.clean))
        two_each = all(not isinstance(text, str) and len(text) == 2 for text in self.texts)
        require(two_each, "texts are a clean and a corrupted one for each pair")
        texts = tuple((clean, corrupted) for clean, corrupted in self.texts)
        require(len(texts) in (0, len(self.clean)), f"{len(texts)} texts for {len(self)} pairs")
        object.__setattr__(self, "attention_mask", mask.long())
        object.__setattr__(self, "supervised", where.bool())
        object.__setattr__(self, "texts", texts)

    def __len__(self) -> int:
        return len(self.clean)

    def __getitem__(self, indices: Sequence[int] | Tensor | slice) -> PromptPairs:
        """The pairs at `indices`, in that order and as often as they are named."""
        try:
            on_cpu = indices.cpu() if isinstance(indices, Tensor) else indices
            rows = torch.arange(len(self))[on_cpu]
        except (IndexError, TypeError, ValueError) as error:
            raise BadInput(f"pairs: {indices!r} picks none of {len(self)}: {error}") from None
        require(rows.ndim == 1 and len(rows) > 0, "pairs are picked by a non-empty list or slice")
        texts = tuple(self.texts[row] for row in rows.tolist()) if self.texts else ()
        return PromptPairs(
            **{name: tensor[rows.to(tensor.device)] for name, tensor in self.tensors.items()},
            texts=texts,
        )

    def to(self, device: torch.device) -> PromptPairs:
        """The same pairs with their tensors on `device`."""
        moved = {name: tensor.to(device) for name, tensor in self.tensors.items()}
        return PromptPairs(**moved, texts=self.texts)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors that are there, by field name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal characters that name the tensors' contents, whatever the texts."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.tensors.items()):
            # The shape stands for what the bytes leave open: 2 x 3 and 3 x 2 are other pairs.
            digest.update(f"{name} {tuple(tensor.shape)} ".encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    @classmethod
    def padded(cls, unpadded: Sequence[Pair], pad_token_id: int) -> PromptPairs:
        """One pair for each pair, padded on the right with `pad_token_id` to the longest."""
        require(len(unpadded) > 0, "there is not one pair of prompts to make pairs of")
        for pair in unpadded:
            sizes = f"{len(pair.clean)} and {len(pair.corrupted)} tokens"
            require(len(pair.clean) == len(pair.corrupted), f"a pair of prompts has {sizes}")
        return cls(
            clean=pad([pair.clean for pair in unpadded], pad_token_id),
            corrupted=pad([pair.corrupted for pair in unpadded], pad_token_id),
            attention_mask=pad([(1,) * len(pair.clean) for pair in unpadded], 0),
            labels=torch.tensor([(pair.correct, pair.incorrect) for pair in unpadded]),
            texts=tuple(pair.text for pair in unpadded),
        )

    @classmethod
    def read(cls, path: str | Path, tokenizer: Any, contrast: str | None = None) -> PromptPairs:
        """The pairs of a JSONL file of one's own, whose lines have `clean`, `corrupted`, `correct`
        and `incorrect` (`tracking.pairs.pairs_file` says how they are read).

        `contrast` picks among those of a file that has several. Raises `BadInput` with the line of
        what is wrong.
        """
        by_contrast = read_pairs(path, tokenizer)
        if contrast is None and len(by_contrast) == 1:
            (contrast,) = by_contrast
        if contrast not in by_contrast:
            has = ", ".join(by_contrast)
            asked = f"none called {contrast!r}" if contrast else "not one alone"
            raise BadInput(f"{path} has the contrasts {has}, {asked}; name one: contrast=...")
        return cls.padded(by_contrast[contrast], padding(tokenizer))

    @classmethod
    def from_text(
        cls, tokenizer: Any, rows: Iterable[tuple[Prompt, Prompt, str, str]]
    ) -> PromptPairs:
        """A pair for each `(clean, corrupted, correct, incorrect)`: prompts as text or as chat
        messages, and the word that is right to come next after each.

        Raises `BadInput` with the index of what is no pair.
        """
        return cls.padded(pairs_from_text(tokenizer, rows), padding(tokenizer))


def pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """LongTensor `[row, longest row]`: the rows, filled up on the right with `value`."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])


def last_token(mask: Tensor) -> Tensor:
    """BoolTensor `[pair, position]`: true at each row's last token that is not padding."""
    positions = torch.arange(mask.shape[1], device=mask.device)
    last = (mask * positions).argmax(dim=1, keepdim=True)
    return positions == last


# What a pair set must be


def require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise BadInput(f"pairs: {otherwise}")


def check_tensor(name: str, value: object) -> None:
    absent = value is None and name not in ("clean", "corrupted")
    require(
        absent or isinstance(value, Tensor),
        f"{name} is a {type(value).__name__}, not a tensor; make one with torch.tensor(...), "
        "or pairs of texts with PromptPairs.from_text",
    )


def check_ids(clean: Tensor, corrupted: Tensor) -> None:
    shapes = f"{list(clean.shape)} and {list(corrupted.shape)}"
    require(clean.shape == corrupted.shape, f"clean and corrupted differ in shape: {shapes}")
    require(clean.ndim == 2, f"token ids are [pair, position], not {list(clean.shape)}")
    require(clean.numel() > 0, "there is not one token in them")
    for name, ids in (("clean", clean), ("corrupted", corrupted)):
        require(ids.dtype == torch.long, f"{name} holds {ids.dtype}, not token ids (torch.long)")
        require(bool((ids >= 0).all()), f"{name} holds negative token ids")


def check_mask(mask: Tensor, shape: torch.Size) -> None:
    sizes = f"{list(mask.shape)} for token ids of {list(shape)}"
    require(mask.shape == shape, f"attention_mask is {sizes}")
    require(bool(((mask == 0) | (mask == 1)).all()), "attention_mask holds more than 0 and 1")
    before = torch.nn.functional.pad(mask.long(), (1, 0))[:, :-1]
    starts = ((mask.long() - before) == 1).sum(dim=1)
    require(bool((starts > 0).all()), "attention_mask leaves a pair without a token")
    require(bool((starts == 1).all()), "attention_mask has a hole: padding between tokens")


def check_supervised(where: Tensor, mask: Tensor) -> None:
    sizes = f"{list(where.shape)} for token ids of {list(mask.shape)}"
    require(where.shape == mask.shape, f"supervised is {sizes}")
    require(not bool((where.bool() & (mask == 0)).any()), "supervised is true on padding")
    require(bool(where.bool().any(dim=1).all()), "supervised is true nowhere in some pair")


def check_labels(labels: Tensor | None, pairs: int) -> None:
    if labels is None:
        return
    sizes = f"{list(labels.shape)}, not {[pairs, 2]} (correct, incorrect)"
    require(tuple(labels.shape) == (pairs, 2), f"labels are {sizes}")
    require(labels.dtype == torch.long, f"labels are {labels.dtype}, not torch.long")
    require(bool((labels >= 0).all()), "labels hold negative token ids")


def look(pairs: PromptPairs) -> tuple[Tensor, Tensor]:
    """Where the metric looks: positions LongTensor and weights float [pair, look].

    Weights sum to 1 per pair; a pair with fewer positions than others has zeros.
    """
    counts = pairs.supervised.sum(-1, keepdim=True)  # [pair, 1]
    order = pairs.supervised.int().argsort(dim=-1, descending=True, stable=True)
    positions = order[:, : int(counts.max())]  # [pair, look]
    weights = torch.arange(positions.shape[1], device=positions.device) < counts
    return positions, weights / counts


def last_position(pairs: PromptPairs) -> Tensor:
    """LongTensor [pair]: each pair's last real token, padding on either side."""
    positions = torch.arange(pairs.clean.shape[1], device=pairs.clean.device)
    return (pairs.attention_mask * positions).argmax(-1)
