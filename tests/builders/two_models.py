"""Two models of one shape: a base, and what a training might have made of it."""

import copy
from collections.abc import Collection
from typing import Any

import torch


def changed(base: Any, seed: int, size: float = 0.3, only: Collection[str] = ()) -> Any:
    """A copy of `base` with noise on its weights, as large as `size` of each; `only` on those whose
    names begin so or hold one of these words."""
    copied = copy.deepcopy(base).eval()
    for hooked in copied.modules():
        hooked._forward_hooks.clear()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in copied.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if not only or any(word in name for word in only):
            parameter.data += size * noise * parameter.data.std()
    return copied
