"""How much two policies differ at each token of a text."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tracking.comparison.shift.texts import Texts
from tracking.errors import BadInput
from tracking.model.decoder import Decoder, embed, run
from tracking.model.taps import undisturbed

AT_ONCE = 256  # positions whose distributions over the vocabulary are in memory
SHARE = 0.9  # of the divergence, that the places at which it is looked at carry


@dataclass(frozen=True)
class Divergence:
    """Of the next token's distribution at each position, at temperature 1, on the CPU; 0 where no
    token of a completion comes next."""

    kl: Tensor  # float32 [text, position], of the trained policy from the base's, in nats
    entropy: Tensor  # float32 [text, position], the base's, in nats
    preferred: Tensor  # LongTensor [text, position, 2]: the trained's likeliest token, the base's
    asks: Tensor  # BoolTensor [text, position]

    @classmethod
    def of(cls, base: Decoder, trained: Decoder, texts: Texts, batch_size: int = 8) -> Divergence:
        """By one pass of each model over the texts. `BadInput` where their vocabularies differ."""
        sizes = [len(one.embedding.weight) for one in (base, trained)]
        if sizes[0] != sizes[1]:
            raise BadInput(f"base and trained differ in vocabulary: {sizes[0]} and {sizes[1]}")
        shape = texts.token_ids.shape
        kl, entropy = torch.zeros(shape), torch.zeros(shape)
        preferred = torch.zeros(*shape, 2, dtype=torch.long)
        with undisturbed(base), undisturbed(trained):
            for rows in texts.mask.sum(-1).argsort(stable=True).split(batch_size):
                asks = texts.asks[rows]
                ours, theirs = (_last(one, texts, rows) for one in (base, trained))
                text, position = rows[asks.nonzero()[:, 0]], asks.nonzero()[:, 1]
                for part in torch.arange(len(text)).split(AT_ONCE):
                    there = text[part], position[part]
                    here = base.logits(ours[part]).log_softmax(-1)
                    now = trained.logits(theirs[part]).log_softmax(-1)
                    kl[there] = (now.exp() * (now - here)).sum(-1).clamp(min=0).cpu()
                    entropy[there] = -(here.exp() * here).sum(-1).cpu()
                    likeliest = [one.argmax(-1) for one in (now, here)]
                    preferred[there] = torch.stack(likeliest, -1).cpu()
        return cls(kl, entropy, preferred, texts.asks)

    @property
    def mean(self) -> float:
        """Nats a token."""
        return float(self.kl[self.asks].mean())

    @property
    def concentration(self) -> float:
        """The share of tokens that carry `SHARE` of the divergence; NaN where there is none."""
        return _share_of_tokens(self.kl, self.asks)

    @property
    def concentration_of_entropy(self) -> float:
        """The share that would, if each token's divergence were in proportion to how open the base
        is there: its entropy. The null of a shift that is just as large everywhere."""
        return _share_of_tokens(self.entropy, self.asks)

    @property
    def carrying(self) -> Tensor:
        """BoolTensor [text, position]: the fewest positions that carry `SHARE` of it."""
        return carrying(self.kl, self.asks)


def carrying(amount: Tensor, asks: Tensor) -> Tensor:
    """BoolTensor [text, position]: the fewest of the positions `asks` that have `SHARE` of an
    amount [text, position], which is nowhere below 0; none where there is nothing."""
    places = asks.nonzero(as_tuple=True)
    each, order = amount[places].double().sort(descending=True, stable=True)
    out = torch.zeros_like(asks)
    if float(each.sum()) > 0:
        before = each.cumsum(0) - each
        mine = order[before < SHARE * each.sum()]
        out[places[0][mine], places[1][mine]] = True
    return out


def _share_of_tokens(amount: Tensor, asks: Tensor) -> float:
    inside = carrying(amount, asks)
    return float(inside.sum() / asks.sum()) if bool(inside.any()) else float("nan")


def _last(decoder: Decoder, texts: Texts, rows: Tensor) -> Tensor:
    """[place, width]: what `lm_head` reads where the texts ask, row by row."""
    longest = int(texts.mask[rows].sum(-1).max())
    ids, mask = (part[rows, :longest].to(decoder.device) for part in (texts.token_ids, texts.mask))
    last = run(decoder, embed(decoder, ids), mask)
    return last[texts.asks[rows, :longest].to(last.device)]
