"""A model with its heads in another order: the same function, other names."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor


def exchanged(model: Any, seed: int = 0) -> tuple[Any, list[str]]:
    """The model with KV groups, and heads within them, in another order in every layer; and what
    every head, in the order of `Graph.head_names`, is called in it."""
    model, names, generator = deepcopy(model), [], torch.Generator().manual_seed(seed)
    config = model.config
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    for layer, block in enumerate(model.model.layers):
        order = torch.arange(heads).view(groups, -1)[torch.randperm(groups, generator=generator)]
        of_groups = order[:, 0] // order.shape[1]
        within = [row[torch.randperm(len(row), generator=generator)] for row in order]
        of_heads = torch.cat(within)  # what stands at each place now
        attention = block.self_attn
        size = attention.head_dim
        for projection, places in (
            (attention.q_proj, of_heads),
            (attention.k_proj, of_groups),
            (attention.v_proj, of_groups),
        ):
            projection.weight.data = _moved(projection.weight.data, places, size)
            if projection.bias is not None:
                projection.bias.data = _moved(projection.bias.data, places, size)
        out = attention.o_proj.weight
        out.data = _moved(out.data.T, of_heads, size).T.contiguous()
        names += [f"L{layer}H{int((of_heads == head).nonzero())}" for head in range(heads)]
    return model, names


def _moved(weight: Tensor, places: Tensor, size: int) -> Tensor:
    return weight.unflatten(0, (-1, size))[places].flatten(0, 1).clone()
