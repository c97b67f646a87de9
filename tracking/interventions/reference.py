"""What nodes give on a reference set of prompts, to stand in the place of what they give.

Positions are counted from a prompt's first real token, not from its end: generation moves the end,
and what the cache holds of earlier tokens could not move with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tracking.errors import BadInput
from tracking.interventions.prompts import mask_of, passes
from tracking.model.decoder import Decoder
from tracking.model.taps import LayerTaps


@dataclass(frozen=True)
class Reference:
    """Values of all heads and MLPs, float32 [draw, position, feature], by layer.

    Row r of a batch takes draw r modulo their number, for all nodes and the whole generation; a
    mean is the only draw of its kind. A token takes the values of its position, counted from the
    row's first real token, or the last ones where there are no more.
    """

    mode: str  # `mean` or `resample`
    z: list[Tensor]  # [draw, position, head * head_dim]
    mlp_outs: list[Tensor]  # [draw, position, width]

    @classmethod
    def mean(
        cls,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        per_position: bool = False,
    ) -> Reference:
        """Means over the real tokens of the prompts `input_ids`, LongTensor [row, position].

        Over all of them, or `per_position`: over those that stand as far from their row's first
        one, and beyond the longest prompt the mean over all. `attention_mask` is 0 on padding, on
        either side: `Reference.mean(model, **tokenizer(texts, padding=True, return_tensors="pt"))`
        or `Reference.mean(model, pairs.clean, pairs.attention_mask)`. Takes one pass over them and
        leaves the model as it was. Raises `BadInput` for a model that is not supported, or ids
        that do not fit it or their mask.
        """
        decoder = Decoder.of(model)
        mask = mask_of(decoder, input_ids, attention_mask)
        place = mask.cumsum(-1) - 1  # [row, position], of real tokens
        counts = place[mask.bool()].bincount()[:, None]
        sums: list[Tensor] = []  # by part [place, feature]
        for rows, layers in passes(decoder, input_ids, mask):
            real = mask[rows].bool()
            here = [values[real].cpu() for values in _seen(layers)]  # [token, feature]
            sums = sums or [values.new_zeros(len(counts), values.shape[1]) for values in here]
            for total, values in zip(sums, here, strict=True):
                total.index_add_(0, place[rows][real], values)
        means = [(total.sum(0) / counts.sum())[None] for total in sums]
        if per_position:  # and the mean over all behind the last
            each = zip(sums, means, strict=True)
            means = [torch.cat([total / counts, overall]) for total, overall in each]
        return cls("mean", *_by_kind([values[None] for values in means]))

    @classmethod
    def resample(
        cls,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        per_position: bool = False,
        draws: int = 64,
        seed: int = 0,
    ) -> Reference:
        """Values of single real tokens of the prompts `input_ids`, LongTensor [row, position].

        Up to `draws` of them, drawn by `seed` without repeats: of one token each, for whatever
        position; or, `per_position`, of a whole prompt each, whose last token's values are held
        beyond its end. Prompts and errors are as for `mean`.
        """
        if draws < 1:
            raise BadInput(f"draws is {draws}; it must be at least 1")
        decoder = Decoder.of(model)
        mask = mask_of(decoder, input_ids, attention_mask)
        rows, columns = _drawn(mask, per_position, draws, seed)
        kept: list[list[Tensor]] = []
        which: list[Tensor] = []
        for batch, layers in passes(decoder, input_ids, mask):
            mine = torch.isin(rows, batch).nonzero()[:, 0]
            at = (rows[mine] - batch[0])[:, None], columns[mine]
            kept.append([values[at].cpu() for values in _seen(layers)])
            which.append(mine)
        order = torch.cat(which).argsort()
        values = [torch.cat(part)[order] for part in zip(*kept, strict=True)]
        return cls("resample", *_by_kind(values))

    @property
    def length(self) -> int:
        """Positions that have values of their own; 1 where all have the same."""
        return self.z[0].shape[1]

    def rows(self, rows: Tensor) -> Reference:
        """The same with draw `rows[r]`, LongTensor [row], modulo their number, for row r: give a
        problem its own draw, in whatever batch it stands."""
        draws = rows.cpu() % len(self.z[0])
        z, mlp_outs = ([part[draws] for part in parts] for parts in (self.z, self.mlp_outs))
        return Reference(self.mode, z, mlp_outs)

    def check(self, decoder: Decoder) -> None:
        """Raise `BadInput` where this was not measured on a model of this shape."""
        ours = (len(self.z), self.z[0].shape[-1], self.mlp_outs[0].shape[-1])
        theirs = (len(decoder.blocks), decoder.n_heads * decoder.head_dim, decoder.width)
        if ours != theirs:
            raise BadInput(
                f"the reference is of {ours[0]} layers, z of {ours[1]} and a stream of {ours[2]}; "
                f"the model has {theirs[0]}, {theirs[1]} and {theirs[2]}"
            )


def _seen(layers: list[LayerTaps]) -> Iterator[Tensor]:
    """Float32 [row, position, feature]: z of every layer, then MLPs' outputs."""
    yield from (layer.z.float() for layer in layers)
    yield from (layer.mlp_out.float() for layer in layers)


def _by_kind(parts: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """z and MLPs' outputs, by layer."""
    return parts[: len(parts) // 2], parts[len(parts) // 2 :]


def _drawn(mask: Tensor, per_position: bool, draws: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows, LongTensor [draw], and columns, [draw, position], of what is drawn."""
    generator = torch.Generator().manual_seed(seed)
    if not per_position:
        tokens = mask.nonzero()  # [token, row and column]
        drawn = tokens[torch.randperm(len(tokens), generator=generator)[:draws]]
        return drawn[:, 0], drawn[:, 1:]
    rows = torch.randperm(len(mask), generator=generator)[:draws]
    sizes = mask[rows].sum(-1, keepdim=True)
    start = mask[rows].argmax(-1, keepdim=True)
    return rows, start + torch.arange(int(sizes.max())).minimum(sizes - 1)
