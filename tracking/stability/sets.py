"""How alike two sets are, and sets in a bit for each sample that has an element."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def jaccard(first: Tensor, second: Tensor) -> Tensor:
    """Float32 [...] of two sets of heads or edges, BoolTensors [..., member]; 1 where both are
    empty."""
    one, other = (np.packbits(inside.numpy(), axis=-1) for inside in (first, second))
    both, either = (_counted(bits) for bits in (one & other, one | other))
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)


def _counted(bits: np.ndarray) -> Tensor:
    """Int64 [...]: how many bits of [..., byte] are set."""
    return torch.from_numpy(np.asarray(np.bitwise_count(bits).sum(-1, dtype=np.int64)))


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
    here = membership[among]
    placed = np.zeros((len(draws), len(here)), dtype=np.uint8)
    placed[:, (here == 1).numpy()] = 255
    placed[:, unsure(here).numpy()] = draws.numpy()
    return torch.from_numpy(np.unpackbits(placed, axis=0, count=samples).view(bool))
