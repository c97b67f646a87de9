"""Where two policies differ most, and what is asked of them there.

At a place the trained model's likeliest next token is held against the base's; where both prefer
the same there is nothing to ask. The places and tokens are chosen by the two models that are then
compared, so the behaviour (trained less base) is above 0 by construction, for any two models:
that it is there says nothing, and its size only beside a control's. What says something is which
node carries it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tracking.comparison.exchange.crossed import Crossed, Looks
from tracking.comparison.shift.divergence import Divergence
from tracking.comparison.shift.texts import Texts


@dataclass(frozen=True)
class Places:
    """The positions that carry most of the divergence and at which the models prefer different
    tokens; a row a text that has any."""

    looks: Looks
    texts: Tensor  # LongTensor [row], in `Texts`
    prompt: Tensor  # LongTensor [row], numbered from 0 without gaps
    agreeing: int  # positions that carry it too, but both models prefer the same token: left out
    held: float  # share of all divergence that lies on these places

    @classmethod
    def of(cls, texts: Texts, divergence: Divergence) -> Places | None:
        """None where the models nowhere prefer different tokens."""
        carrying = divergence.carrying
        differ = carrying & (divergence.preferred[..., 0] != divergence.preferred[..., 1])
        rows = differ.any(1).nonzero()[:, 0]
        if not len(rows):
            return None
        mine = differ[rows]
        counts = mine.sum(1, keepdim=True)
        order = mine.int().argsort(dim=1, descending=True, stable=True)
        positions = order[:, : int(counts.max())]  # [row, look]
        weights = (torch.arange(positions.shape[1]) < counts).float()
        tokens = divergence.preferred[rows[:, None], positions]
        looks = Looks(texts.token_ids[rows], texts.mask[rows], positions, weights, tokens)
        prompt = texts.prompt[rows].unique(return_inverse=True)[1]
        held = float(divergence.kl[differ].sum() / divergence.kl.sum())
        return cls(looks, rows, prompt, int(carrying.sum() - differ.sum()), held)

    @property
    def count(self) -> int:
        """How many places."""
        return int(self.looks.weights.sum())

    @property
    def prompts(self) -> int:
        """How many prompts they are of."""
        return int(self.prompt.max()) + 1

    def by_prompt(self, crossed: Crossed) -> Crossed:
        """Figures of rows as figures of prompts, [prompt, ..], whose mean over prompts is the mean
        over places: positions of one text, and texts of one prompt, are not independent."""
        return Crossed(*map(self.summed, vars(crossed).values()))

    def summed(self, figures: Tensor) -> Tensor:
        """The same of one tensor [row, ..]."""
        sums = figures.new_zeros(self.prompts, *figures.shape[1:])
        return sums.index_add(0, self.prompt, figures) * (self.prompts / self.count)
