"""Scaled and switched-off nodes written into the weights, for programs that know no hooks."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

from torch import Tensor

from tracking.atomic import publish
from tracking.errors import BadInput
from tracking.interventions.factors import Factors, Nodes
from tracking.model.adapters import bias_of, merged_copy
from tracking.model.decoder import Decoder


def export(model: Any, factors: Nodes, path: str | Path, tokenizer: Any = None) -> None:
    """Write `model` with its nodes scaled as an ordinary Hugging Face checkpoint into `path`.

    It gives what the model gives within `intervene(model, factors)`: the columns of a head in the
    output projection, and an MLP's last matrix with its bias, or the norm behind it, are multiplied
    by the node's factor, `{"L5H1": 0.5, "M5": 0.0}` or names alone for 0. LoRA adapters are merged
    in; tied embeddings stay tied; `tokenizer` is saved beside it. The model is left as it was. The
    folder is there whole or not at all.

    Raises `BadInput` where `path` is something other than an empty folder, for a sequence of
    factors by row, and as `intervene` does.
    """
    target = Path(path)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise BadInput(f"{target} is there already; export into a new folder")
    decoder = Decoder.of(model)
    asked = Factors.of(decoder, factors)
    if asked.rows is not None:
        raise BadInput("weights have no rows: export takes one mapping of factors")
    copied = merged_copy(model)
    _scale(Decoder.of(copied), asked)
    building = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
    try:
        copied.save_pretrained(building)
        if tokenizer is not None:
            tokenizer.save_pretrained(building)
        publish(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _scale(decoder: Decoder, factors: Factors) -> None:
    """Multiply the weights that write what the nodes give, in place."""
    for layer, factor in factors.heads.items():
        _multiply(decoder.blocks[layer].o.weight, factor[0])  # [1, head * head_dim]
    for layer, factor in factors.mlps.items():
        block = decoder.blocks[layer]
        if block.mlp_behind:  # it would undo what is done before it
            weight = decoder.norm_weight(block.mlp_behind) * factor[0, 0].to(decoder.device)
            block.mlp_behind.weight.data.copy_(weight - decoder.added)
            continue
        last = block.down
        _multiply(last.weight, factor[0])
        if (bias := bias_of(last)) is not None:
            _multiply(bias, factor[0, 0])


def _multiply(weight: Tensor, factor: Tensor) -> None:
    weight.data = (weight.data * factor.to(weight.device)).to(weight.dtype)
