"""What the prompts of a batch begin with alike: run once, and gone on from by every later pass.

A decoder is causal. Before the first token at which the clean and the corrupted prompt of any pair
differ, all that it computes is the same under both, at every place of the path between them and
whichever edges or nodes are exchanged, and no difference stands there that a score could count. So
keys and values of these positions are all that the passes behind them need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from tracking.pairs.prompt_pairs import PromptPairs, last_position

Heads = Callable[[int], Sequence[int]]
"""The query heads of a layer that run."""


@dataclass(frozen=True)
class Past:
    """Keys and values of the positions before those of a pass, of its rows, or of fewer that these
    repeat in order."""

    keys: list[Tensor]  # by layer [row, KV head, position, head_dim], turned by their positions
    values: list[Tensor]  # by layer [row, KV head, position, head_dim]
    mask: Tensor  # LongTensor [row, position], 0 on padding
    n_heads: int
    heads: Heads | None = None  # where not all query heads run, and each has its own K and V

    def rows(self, rows: Tensor) -> Past:
        """Of the rows at `rows`."""
        keys, values = (
            [one[rows.to(one.device)] for one in some] for some in (self.keys, self.values)
        )
        return replace(self, keys=keys, values=values, mask=self.mask[rows.to(self.mask.device)])

    def read_by(self, heads: Heads) -> Past:
        """For a pass in which only the query heads run that `heads` has of a layer."""
        return replace(self, heads=heads)

    def mask_before(self, mask: Tensor) -> Tensor:
        """LongTensor [row, position]: the mask of a pass, [row, position], from the beginning."""
        return torch.cat([_repeated(self.mask, len(mask)), mask], dim=1)

    def cache(self) -> Cache:
        """As the model's own attention takes it; nothing is added to it."""
        return _Read(self)


class _Read(Cache):
    """A cache that gives the past before what a pass computes, and keeps nothing of this."""

    def __init__(self, past: Past) -> None:
        self.past = past
        super().__init__(
            layers=[_filled(*each) for each in zip(past.keys, past.values, strict=True)]
        )

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Keys and values [row, head, position, head_dim] of all positions: of KV heads, of query
        heads, or of the query heads that run, as those of the pass are."""
        past = self.past.keys[layer_idx], self.past.values[layer_idx]
        keys, values = (
            torch.cat([self._before(before, now, layer_idx), now], dim=-2)
            for before, now in zip(past, (key_states, value_states), strict=True)
        )
        return keys, values

    def _before(self, before: Tensor, now: Tensor, layer: int) -> Tensor:
        """Of the rows and heads of `now`."""
        group = self.past.n_heads // before.shape[1]
        if self.past.heads is not None:
            running = torch.tensor(self.past.heads(layer), device=before.device)
            before = before[:, running // group]
            # behind the heads that run a fused projection has some of zeros
            missing = now.shape[1] - before.shape[1]
            before = torch.nn.functional.pad(before, (0, 0, 0, 0, 0, missing))
        elif now.shape[1] != before.shape[1]:
            before = before.repeat_interleave(group, dim=1)
        return _repeated(before, len(now))


def _filled(keys: Tensor, values: Tensor) -> Any:
    """One layer's, from which the model counts positions."""
    layer = DynamicLayer()
    layer.keys, layer.values, layer.is_initialized = keys, values, True
    return layer


def _repeated(rows: Tensor, count: int) -> Tensor:
    """So many rows, the same ones in order, again and again."""
    return rows if len(rows) == count else rows.repeat(count // len(rows), *[1] * (rows.ndim - 1))


def alike(pairs: PromptPairs) -> Tensor:
    """LongTensor [pair]: the positions, padding among them, before the first at which the prompts
    of a pair differ or the metric looks."""
    differs = (pairs.clean != pairs.corrupted) & pairs.attention_mask.bool()
    return (differs | pairs.supervised).int().argmax(-1)


def by_rest(pairs: PromptPairs, batch_size: int) -> Iterator[Tensor]:
    """Indices, on the CPU, of batches of pairs that have alike many tokens left from where their
    prompts begin to differ."""
    rest = last_position(pairs) - alike(pairs)
    yield from rest.argsort(stable=True).cpu().split(batch_size)


def ending_together(pairs: PromptPairs) -> PromptPairs:
    """The same pairs, all padding on the left: those of a batch share most if they end together."""
    count = pairs.clean.shape[1]
    positions = torch.arange(count, device=pairs.clean.device)
    places = (positions + last_position(pairs)[:, None] + 1) % count  # [pair, position]
    moved = (
        one.gather(1, places)
        for one in (pairs.clean, pairs.corrupted, pairs.attention_mask, pairs.supervised)
    )
    clean, corrupted, mask, supervised = moved
    return PromptPairs(clean, corrupted, mask, pairs.labels, supervised)
