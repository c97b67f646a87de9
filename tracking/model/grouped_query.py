"""Grouped-query attention per query head: where K and V are ungrouped for an analysis.

The projections' outputs are repeated for every query head, and the layer's own number of groups is
1 meanwhile, so that attention, q/k norms and rotary embeddings work per query head unchanged and a
gradient at a K or V is that of one query head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from tracking.model.architecture import Block


@contextmanager
def ungrouped(block: Block) -> Iterator[None]:
    """Within it the layer's attention takes K and V of every query head, `per_query_head`."""
    attention = block.attention
    groups = attention.num_key_value_groups
    attention.num_key_value_groups = 1
    if block.fused:  # by this number it cuts K and V out of the one output
        attention.num_key_value_heads *= groups
    try:
        yield
    finally:
        attention.num_key_value_groups = groups
        if block.fused:
            attention.num_key_value_heads //= groups


def per_query_head(read: Tensor, n_heads: int, head_dim: int) -> Tensor:
    """A projection's output [row, position, (KV) head * head_dim] as [row, position, head *
    head_dim]: every KV head repeated for the query heads of its group; q as it is."""
    if read.shape[-1] == n_heads * head_dim:
        return read
    grouped = read.unflatten(-1, (-1, head_dim))  # [row, position, KV head, head_dim]
    return grouped.repeat_interleave(n_heads // grouped.shape[2], dim=2).flatten(2)
