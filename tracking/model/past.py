"""Keys and values that a pass leaves for passes which go on from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

Heads = Callable[[int], Sequence[int]]
"""The query heads of a layer that run."""


@dataclass(frozen=True)
class Past:
    """Keys and values of the positions before those of a pass, of its rows, or of fewer that these
    repeat in order."""

    layers: list[Any]  # keys and values [row, KV head, position, head_dim], turned by position
    mask: Tensor  # LongTensor [row, position], 0 on padding
    n_heads: int
    heads: Heads | None = None  # where not all query heads run, and each has its own K and V

    def rows(self, rows: Tensor) -> Past:
        """Of the rows at `rows`."""
        layers = [DynamicLayer() for _ in self.layers]
        for ours, theirs in zip(layers, self.layers, strict=True):
            places = rows.to(theirs.keys.device)
            ours.update(theirs.keys[places], theirs.values[places])
        return replace(self, layers=layers, mask=self.mask[rows.to(self.mask.device)])

    def read_by(self, heads: Heads) -> Past:
        """For a pass in which only the query heads run that `heads` has of a layer."""
        return replace(self, heads=heads)

    def mask_with(self, mask: Tensor) -> Tensor:
        """LongTensor [row, position]: the past's mask and, behind it, that of a pass."""
        return torch.cat([_repeated(self.mask, len(mask)), mask], dim=1)

    def cache(self) -> Cache:
        """As the model's own attention takes it; nothing is added to it."""
        return _PastCache(self)


class _PastCache(Cache):
    """A cache that gives the past before what a pass computes, and keeps nothing of this."""

    def __init__(self, past: Past) -> None:
        super().__init__(layers=past.layers)
        self.past = past

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Keys and values [row, head, position, head_dim] of all positions, of the heads that the
        pass has: KV heads, all query heads, or those that run."""
        layer, heads = self.past.layers[layer_idx], self._heads(layer_idx, key_states)
        keys, values = (
            torch.cat([_repeated(before[:, heads], len(now)), now], dim=-2)
            for before, now in ((layer.keys, key_states), (layer.values, value_states))
        )
        return keys, values

    def _heads(self, layer: int, now: Tensor) -> Tensor | slice:
        """Which KV head each head of `now` [row, head, position, head_dim] reads."""
        kv_heads, count = self.past.layers[layer].keys.shape[1], now.shape[1]
        group = self.past.n_heads // kv_heads
        if self.past.heads is not None:
            # behind the heads that run a fused projection has some of zeros, which nobody reads
            running = [*self.past.heads(layer), *[0] * count][:count]
            return torch.tensor(running, device=now.device) // group
        if count == kv_heads:
            return slice(None)
        return torch.arange(count, device=now.device) // group


def _repeated(rows: Tensor, count: int) -> Tensor:
    """So many rows, the same ones in order, again and again."""
    return rows if len(rows) == count else rows.repeat(count // len(rows), *[1] * (rows.ndim - 1))
