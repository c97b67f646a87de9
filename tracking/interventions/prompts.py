"""Passes over prompts that say what heads and MLPs give on them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tracking.errors import BadInput
from tracking.model.decoder import Decoder, embed, run
from tracking.model.taps import LayerTaps, tapped

BATCH = 16
"""Prompts in a pass."""


def mask_of(decoder: Decoder, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    """LongTensor [row, position] on the CPU; `BadInput` where prompts do not fit it or a model."""
    if input_ids.ndim != 2 or input_ids.numel() == 0 or input_ids.dtype != torch.long:
        shape = f"{input_ids.dtype} {list(input_ids.shape)}"
        raise BadInput(f"input_ids are token ids, torch.long [row, position], not {shape}")
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    if mask.shape != input_ids.shape or not bool(mask.any(1).all()):
        raise BadInput(
            "attention_mask is 1 on tokens, at least one a row, and shaped like input_ids "
            f"{list(input_ids.shape)}; it is {list(mask.shape)}"
        )
    vocabulary = decoder.embedding.weight.shape[0]
    if int(input_ids.min()) < 0 or int(input_ids.max()) >= vocabulary:
        raise BadInput(f"input_ids go beyond the {vocabulary} tokens that the model knows")
    return mask.long().cpu()


def passes(
    decoder: Decoder, input_ids: Tensor, mask: Tensor
) -> Iterator[tuple[Tensor, list[LayerTaps]]]:
    """Rows, LongTensor [row], of each batch, and what a pass on them leaves."""
    with torch.no_grad(), tapped(decoder) as taps:
        for rows in torch.arange(len(input_ids)).split(BATCH):
            batch = input_ids[rows.to(input_ids.device)].to(decoder.device)
            run(decoder, embed(decoder, batch), mask[rows].to(decoder.device))
            yield rows, taps.layers
