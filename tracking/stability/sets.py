"""How alike two sets are, and sets in a bit for each sample that has an element."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def jaccard(first: Tensor, second: Tensor) -> Tensor:
    """Float32 [...] of two sets of heads, BoolTensors [..., head]; 1 where both are empty."""
    either = (first | second).sum(-1)
    return torch.where(either > 0, (first & second).sum(-1) / either.clamp(min=1), 1.0)


def unsure(membership: Tensor) -> Tensor:
    """BoolTensor [...]: what is in some samples and not in all, by the share of samples [...]."""
    return (membership > 0) & (membership < 1)


def packed(inside: Tensor) -> Tensor:
    """Uint8 [byte, ...]: of BoolTensor [sample, ...], eight samples a byte."""
    return torch.from_numpy(np.packbits(inside.numpy(), axis=0))


def unpacked(membership: Tensor, draws: Tensor, samples: int, among: Tensor) -> Tensor:
    """BoolTensor [sample, edge]: which of the edges `among`, BoolTensor [source, target], are in
    every sample, from the share of samples that have each [source, target] and, of those that are
    `unsure`, the `packed` samples [byte, edge]; these must be among them."""
    bits = torch.from_numpy(np.unpackbits(draws.numpy(), axis=0, count=samples)).bool()
    inside = (membership == 1)[among].repeat(samples, 1)
    inside[:, unsure(membership)[among]] = bits
    return inside
