"""What of prompt pairs is run again and again: the positions from where they differ.

A decoder is causal. Before the first token at which the clean and the corrupted prompt of any pair
of a batch differ, all that it computes is the same under both, at every place of the path between
them and whichever edges or nodes are exchanged, and no difference stands there that a score could
count. So these positions are run once, and their keys and values are all that later passes need;
but for those at which a metric looks, whose logits it wants.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tracking.model.decoder import Decoder, past_of
from tracking.model.past import Past
from tracking.pairs.prompt_pairs import PromptPairs, last_position

LEAST_SHARED = 1 / 8
"""Of a batch's positions: fewer that are alike are not run apart. With a twentieth a CPU takes as
long either way; a GPU has its fastest attention where no mask is, as there is behind a past."""


@dataclass(frozen=True)
class Rest:
    """The positions of a batch that passes run, from the first at which one of its pairs differs or
    its metric looks, or all of them; and what stands before these."""

    pairs: PromptPairs
    past: Past | None

    @classmethod
    def of(cls, decoder: Decoder, pairs: PromptPairs) -> Rest:
        """What all pairs begin with alike is run, where it is worth it."""
        moved, count = ending_together(pairs), pairs.clean.shape[1]
        shared = int(alike(moved).min())
        if shared < LEAST_SHARED * count or decoder.turned_by_length(count):
            return cls(pairs, None)
        before = moved.clean[:, :shared], moved.attention_mask[:, :shared]
        return cls(within(moved, slice(shared, None)), past_of(decoder, *before))

    def rows(self, rows: Tensor) -> Rest:
        """Of the pairs at `rows`."""
        pairs = self.pairs[rows.to(self.pairs.clean.device)]
        return Rest(pairs, self.past and self.past.rows(rows))


def alike(pairs: PromptPairs) -> Tensor:
    """LongTensor [pair]: how many positions, padding among them, stand before the first at which
    the prompts of a pair differ or the metric looks."""
    differs = (pairs.clean != pairs.corrupted) & pairs.attention_mask.bool()
    return (differs | pairs.supervised).int().argmax(-1)


def rest_of_each(pairs: PromptPairs) -> Tensor:
    """LongTensor [pair]: how many positions each has from there to its last token."""
    return last_position(pairs) - alike(pairs) + 1


def most(decoder: Decoder, pairs: PromptPairs) -> tuple[int, int]:
    """How many positions a pass over any batch of these pairs runs at the most, and how many of
    the longest stand before them."""
    count = pairs.clean.shape[1]
    if decoder.turned_by_length(count):
        return count, 0
    runs, shortest = int(rest_of_each(pairs).max()), int(pairs.attention_mask.sum(-1).min())
    if runs > (1 - LEAST_SHARED) * shortest:  # a batch of shorter ones may be run whole
        runs = min(count, math.ceil(runs / (1 - LEAST_SHARED)))
    return runs, count - runs


def batches(decoder: Decoder, pairs: PromptPairs, size: int) -> Iterator[Tensor]:
    """Indices, on the CPU, of batches of pairs that are alike in how much of them is run."""
    if decoder.turned_by_length(pairs.clean.shape[1]):
        return by_length(pairs, size)
    return _split(rest_of_each(pairs).argsort(stable=True), size)


def are_all(rows: Tensor, count: int) -> bool:
    """Whether `rows` are all of so many, in order."""
    return torch.equal(rows, torch.arange(count, device=rows.device))


def by_length(pairs: PromptPairs, batch_size: int) -> Iterator[Tensor]:
    """Indices, on the CPU, of batches of pairs of like length: little padding is computed."""
    return _split(pairs.attention_mask.sum(-1).argsort(stable=True), batch_size)


def _split(order: Tensor, size: int) -> Iterator[Tensor]:
    """On the CPU, in as few parts as `size` allows, as even as can be: what is left over would be
    run by few, or alone, and one row's products round by where the weights lie in memory."""
    return iter(order.cpu().tensor_split(math.ceil(len(order) / size)))


def ending_together(pairs: PromptPairs) -> PromptPairs:
    """The same pairs, all padding on the left: so those of a batch have most alike."""
    count = pairs.clean.shape[1]
    positions = torch.arange(count, device=pairs.clean.device)
    places = (positions + last_position(pairs)[:, None] + 1) % count  # [pair, position]
    clean, corrupted, mask, supervised = (
        one.gather(1, places)
        for one in (pairs.clean, pairs.corrupted, pairs.attention_mask, pairs.supervised)
    )
    return PromptPairs(clean, corrupted, mask, pairs.labels, supervised)


def trimmed(pairs: PromptPairs) -> PromptPairs:
    """The same pairs without the columns in which all are padding."""
    columns = pairs.attention_mask.any(0).nonzero()[:, 0]
    return within(pairs, slice(int(columns[0]), int(columns[-1]) + 1))


def within(pairs: PromptPairs, columns: slice) -> PromptPairs:
    """The same pairs with these positions alone."""
    return PromptPairs(
        pairs.clean[:, columns],
        pairs.corrupted[:, columns],
        pairs.attention_mask[:, columns],
        pairs.labels,
        pairs.supervised[:, columns],
    )
