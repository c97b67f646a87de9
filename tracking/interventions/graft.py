"""A model with another model's heads and MLPs in its weights."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from tracking.errors import BadInput
from tracking.interventions.factors import slots
from tracking.model.adapters import bias_of, effective_weight, merged_copy
from tracking.model.architecture import Block
from tracking.model.decoder import Decoder

SAME = (
    *("model_type", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("hidden_size", "intermediate_size", "attention_bias", "mlp_bias", "rms_norm_eps"),
    *("rope_parameters", "sliding_window", "layer_types"),
    *("query_pre_attn_scalar", "attn_logit_softcapping"),
)
"""What two models must have in common, of what their family's configuration has."""


def graft(base: Any, donor: Any, nodes: Collection[str], shared_kv: bool = False) -> Any:
    """A copy of `base` in which `nodes`, like `["L5H1", "M5"]`, are the donor's.

    A head takes its slices of q, k and v with their biases, and of the output projection; an MLP
    its matrices and its norm. So every grafted node makes of the stream that it reads what the
    donor's would: where the attention norms differ, the donor's is folded into q, k and v. The
    output projection's bias is no head's and stays.

    With grouped-query attention the query heads of a group share one K and V. To graft some of a
    group changes what its other heads attend to, so it is refused unless `shared_kv` says that
    this is meant: the whole group then has the donor's K and V, its other heads their own query
    and output. Norms of q and k (Qwen3), and one behind attention (Gemma), are shared by all heads
    of a layer: where they differ, heads are refused unless all of the layer are named, which take
    them along. `grafted` has neither limit, but for the norm behind attention.

    LoRA adapters of either are merged in. Neither model is changed. Raises `BadInput` for an
    unknown node, models of different shape, and where heads share what differs, as above.
    """
    here, there = Decoder.of(base), Decoder.of(donor)
    check_alike(here, there)
    asked = slots(here.graph, nodes)
    heads: dict[int, list[int]] = {}
    for layer, slot in sorted(set(asked)):
        if slot < here.n_heads:
            heads.setdefault(layer, []).append(slot)
    for layer, chosen in heads.items():
        _check_shared(here, there, layer, chosen, shared_kv)
    copied = merged_copy(base)
    target = Decoder.of(copied)
    with torch.no_grad():
        for layer, chosen in heads.items():
            _graft_heads(target, there, layer, chosen)
        for layer in {layer for layer, slot in asked if slot == here.n_heads}:
            _graft_mlp(target.blocks[layer], there.blocks[layer])
    return copied


def check_alike(base: Decoder, donor: Decoder) -> None:
    """Raise `BadInput` where a node of one model cannot stand in the other."""
    if base.causal is donor.causal:
        raise BadInput("base and donor are the same model; load it twice")
    ours, theirs = (
        {name: getattr(each.causal.config, name, None) for name in SAME}
        | {"head_dim": each.head_dim}  # a configuration may leave it out
        for each in (base, donor)
    )
    for name, mine in ours.items():
        if mine != theirs[name]:
            raise BadInput(f"base and donor differ in {name}: {mine} and {theirs[name]}")


def _check_shared(
    base: Decoder, donor: Decoder, layer: int, heads: list[int], shared_kv: bool
) -> None:
    """Raise `BadInput` where `heads` of a layer share what other heads of it read too."""
    size = base.n_heads // base.n_kv_heads
    for group in sorted({head // size for head in heads}):
        members = range(group * size, (group + 1) * size)
        others = [f"L{layer}H{head}" for head in members if head not in heads]
        if others and not shared_kv:
            raise BadInput(
                f"{', '.join(others)} would read the donor's K and V too: name the whole group, "
                "or say shared_kv=True, or run the donor beside the base: grafted(...)"
            )
    if len(heads) < base.n_heads:
        for ours, theirs in zip(
            _norms(base.blocks[layer]), _norms(donor.blocks[layer]), strict=True
        ):
            if not torch.equal(ours.weight, theirs.weight.to(ours.weight)):
                raise BadInput(
                    f"layer {layer}'s norms in attention, which all its heads share, differ "
                    "between base and donor: name all heads of the layer, or use grafted(...)"
                )


def _norms(block: Block) -> list[Any]:
    """What a layer's attention has beside its projections: its norms of q and k, the norm behind
    it, or nothing."""
    projections = (*block.reads, block.fused, block.o)
    inside = [
        child
        for child in block.attention.children()
        if child not in projections and any(True for _ in child.parameters())
    ]
    return [*inside, block.attention_behind] if block.attention_behind else inside


def _graft_heads(base: Decoder, donor: Decoder, layer: int, heads: list[int]) -> None:
    ours, theirs = base.blocks[layer], donor.blocks[layer]
    of_group = sorted({head * base.n_kv_heads // base.n_heads for head in heads})
    weights = base.norm_weight(ours.attention_norm), donor.norm_weight(theirs.attention_norm)
    fold = _fold(layer, *weights)
    for name, chosen in (("q", heads), ("k", of_group), ("v", of_group)):
        mine, other = getattr(ours, name), getattr(theirs, name)
        _copy(donor.projection(layer, name).to(fold) * fold, mine.weight, base.head_dim, chosen)
        bias, into = bias_of(other), bias_of(mine)
        if bias is not None and into is not None:
            _copy(bias, into, base.head_dim, chosen)
    _copy(donor.projection(layer, "o").T, ours.o.weight.T, base.head_dim, heads)
    if len(heads) == base.n_heads:
        for mine, other in zip(_norms(ours), _norms(theirs), strict=True):
            mine.weight.copy_(other.weight)


def _graft_mlp(ours: Block, theirs: Block) -> None:
    ours.mlp_norm.weight.copy_(theirs.mlp_norm.weight)
    if ours.mlp_behind:
        ours.mlp_behind.weight.copy_(theirs.mlp_behind.weight)
    for name, linear in ours.mlp.named_children():
        if isinstance(linear, nn.Linear):
            other = getattr(theirs.mlp, name)
            linear.weight.copy_(effective_weight(other))
            if (bias := bias_of(other)) is not None:
                linear.bias.copy_(bias)


def _fold(layer: int, ours: Tensor, theirs: Tensor) -> Tensor:
    """Float32 [width]: what the donor's reads are multiplied by, so that they read through the
    base's norm what they read through the donor's."""
    theirs = theirs.to(ours.device)
    fold = torch.where(ours == theirs, 1.0, theirs / ours)
    if not bool(fold.isfinite().all()):
        raise BadInput(f"layer {layer}'s attention norm has a weight of 0; use grafted(...)")
    return fold


def _copy(rows: Tensor, into: Tensor, head_dim: int, heads: list[int]) -> None:
    """Copy the rows, [head * head_dim, ..], of some (KV) heads."""
    into.unflatten(0, (-1, head_dim))[heads] = rows.unflatten(0, (-1, head_dim))[heads].to(into)
