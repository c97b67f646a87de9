"""Where in its row each token of a pass stands, counted from the row's first real token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tracking.model.decoder import Decoder


class Positions:
    """Positions of the pass that runs, LongTensor [row or 1, position]; `last` for later ones."""

    now: Tensor

    def __init__(self, last: int) -> None:
        self.last = last

    def see(self, _module: Any, args: tuple, given: dict[str, Any]) -> None:
        """Told of the backbone's inputs before it runs."""
        tokens = args[0] if args else given.get("input_ids")
        tokens = given["inputs_embeds"] if tokens is None else tokens
        length, mask = tokens.shape[1], given.get("attention_mask")
        if given.get("position_ids") is not None:
            now = given["position_ids"]
        elif isinstance(mask, Tensor) and mask.ndim == 2:  # of the cached tokens too
            now = (mask.long().cumsum(-1) - 1)[:, -length:]
        else:
            cache = given.get("past_key_values")
            before = 0 if cache is None else cache.get_seq_length()
            now = before + torch.arange(length, device=tokens.device)[None]
        self.now = now.clamp(0, self.last)


@contextmanager
def positions_of(decoder: Decoder, last: int) -> Iterator[Positions]:
    """Within it `Positions` are those of the decoder's last pass."""
    positions = Positions(last)
    hook = decoder.backbone.register_forward_pre_hook(positions.see, with_kwargs=True)
    try:
        yield positions
    finally:
        hook.remove()
