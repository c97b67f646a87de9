"""How alike two sets are."""

from __future__ import annotations

import torch
from torch import Tensor


def jaccard(first: Tensor, second: Tensor) -> Tensor:
    """Float32 [...] of two sets of heads, BoolTensors [..., head]; 1 where both are empty."""
    either = (first | second).sum(-1)
    return torch.where(either > 0, (first & second).sum(-1) / either.clamp(min=1), 1.0)
