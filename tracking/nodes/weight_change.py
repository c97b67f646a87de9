"""How far each head's weights have moved since a base, beside what attribution says it does.

A head owns `head_dim` rows of q_proj and `head_dim` columns of o_proj; k_proj and v_proj belong to
its KV head, so that query heads of one group share these two numbers. Biases are left out.
Per module, the same figure for whole projections: Rajani et al. 2025, arXiv 2507.10616.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from tracking.errors import BadInput
from tracking.model.decoder import Decoder

PROJECTIONS = ("q", "k", "v", "o")
CHANGES = (*PROJECTIONS, "change")


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The attention weights of a decoder by layer, float32 copies on the CPU."""

    q: tuple[Tensor, ...]  # each [head * head_dim, width]
    k: tuple[Tensor, ...]  # each [KV head * head_dim, width]
    v: tuple[Tensor, ...]  # each [KV head * head_dim, width]
    o: tuple[Tensor, ...]  # each [width, head * head_dim]
    n_heads: int


def snapshot(model: Any) -> Snapshot:
    """What attention's weights are now, active LoRA adapters merged in; the model stays untouched.

    Raises `BadInput` where the model is not supported.
    """
    decoder = Decoder.of(model)
    # a float32 weight on the CPU would be the parameter itself, and move with it
    copies = (tuple(w.clone() for w in _weights(decoder, name)) for name in PROJECTIONS)
    return Snapshot(*copies, n_heads=decoder.n_heads)


def weight_change(model: Any, base: Snapshot) -> pd.DataFrame:
    """One row a head, in the order of `Graph.head_names`: `head`, `q`, `k`, `v`, `o`, `change`.

    Each of the four is the Frobenius norm of the change of the head's slice since `base`, over the
    norm of the base's slice; `change` is that of all four slices as one vector. What has not moved
    is exactly 0. Raises `BadInput` where the model is not supported or `base` is another's.
    """
    decoder, graph = Decoder.of(model), Decoder.of(model).graph
    changed, whole = zip(
        *(_squares(decoder, name, getattr(base, name)) for name in PROJECTIONS), strict=True
    )
    columns = [_ratio(*pair) for pair in zip(changed, whole, strict=True)]
    columns.append(_ratio(torch.stack(changed).sum(0), torch.stack(whole).sum(0)))
    named = zip(CHANGES, columns, strict=True)
    return pd.DataFrame({"head": graph.head_names, **{n: c.numpy() for n, c in named}})


def _weights(decoder: Decoder, name: str) -> Iterator[Tensor]:
    """One projection's weights, layer by layer, on the CPU."""
    for layer in range(len(decoder.blocks)):
        yield decoder.projection(layer, name).cpu()


def _squares(decoder: Decoder, name: str, base: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Float64 [head] each: squared norms of the change of a projection, and of its base."""
    if len(base) != len(decoder.blocks):
        raise BadInput(f"base has {len(base)} layers; the model has {len(decoder.blocks)}")
    changed, whole = [], []
    for layer, (now, before) in enumerate(zip(_weights(decoder, name), base, strict=True)):
        if now.shape != before.shape:
            sizes = f"{list(before.shape)} in base and {list(now.shape)} in the model"
            raise BadInput(f"{name}_proj of layer {layer} is {sizes}")
        changed.append(_by_head(decoder, name, now - before))
        whole.append(_by_head(decoder, name, before))
    return torch.cat(changed), torch.cat(whole)


def _by_head(decoder: Decoder, name: str, weight: Tensor) -> Tensor:
    """Float64 [head]: squared norm of each query head's slice of one layer's projection."""
    rows = weight.T if name == "o" else weight  # [(KV) head * head_dim, width]
    slices = rows.unflatten(0, (-1, decoder.head_dim))
    squares = torch.linalg.vector_norm(slices, dim=(1, 2), dtype=torch.float64).square()
    return squares.repeat_interleave(decoder.n_heads // len(squares))


def _ratio(changed: Tensor, whole: Tensor) -> Tensor:
    """Float64 [head]; a slice of zeros that stays so has not changed, though 0 / 0 is undefined."""
    return torch.where(changed == 0, 0.0, (changed / whole).sqrt())
