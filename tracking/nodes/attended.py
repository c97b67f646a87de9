"""Where single heads attend over one text: their attention weights, as the model computes them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor

from tracking.errors import BadInput
from tracking.model.decoder import Decoder, embed, run
from tracking.model.taps import attention_patterns, quiet

LEVELS = 255  # of a weight that is kept in a byte: it errs by 1 / 510 at most


def attended(model: Any, ids: Sequence[int], heads: Sequence[str]) -> Tensor:
    """Float32 [head, query, key] on the CPU: the attention weights of heads, named like `L5H1`, in
    one pass over the tokens `ids`; rows sum to 1, and no query sees a later key.

    The pass uses eager attention; mode, flags and implementation are left as they were. Within
    `intervene` they are those of the changed model: a head that is off still attends, though
    nothing of it is written. Raises `BadInput` for a name that is no head.
    """
    decoder = Decoder.of(model)
    names = decoder.graph.head_names
    for head in heads:
        if head not in names:
            raise BadInput(f"{head!r} is no head of this model")
    places = [divmod(names.index(head), decoder.n_heads) for head in heads]
    layers, kept = count(), {}

    def keep(patterns: Tensor) -> None:
        layer = next(layers)
        for place in places:
            if place[0] == layer:
                kept[place] = patterns[0, place[1]].cpu()

    tokens = torch.tensor([list(ids)], device=decoder.device)
    with torch.no_grad(), quiet(decoder), attention_patterns(decoder, keep):
        run(decoder, embed(decoder, tokens), torch.ones_like(tokens))
    return torch.stack([kept[place] for place in places])


def quantised(weights: Tensor) -> bytes:
    """Weights in [0, 1] as a byte each, in order: rounded to `LEVELS` steps."""
    return (weights * LEVELS).round().to(torch.uint8).numpy().tobytes()
