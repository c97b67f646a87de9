"""What is wrapped around a decoder: DDP, `torch.compile`, PEFT and its LoRA adapters."""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor, nn

from tracking.errors import BadInput


def unwrap(model: Any) -> Any:
    """The Hugging Face model inside DDP, `torch.compile` and PEFT (its adapters stay in place)."""
    while True:
        if _of_peft(model, "peft", "PeftModel"):
            if model.active_peft_config.is_prompt_learning:
                raise BadInput("cannot track a prompt-learning adapter; supported: LoRA")
            model = model.get_base_model()
        elif hasattr(model, "_orig_mod"):
            model = model._orig_mod
        elif isinstance(model, nn.parallel.DistributedDataParallel):
            model = model.module
        else:
            return model


def effective_weight(linear: Any) -> Tensor:
    """Float32 [out, in]: a linear layer's weight with its active, unmerged LoRA adapters added."""
    if not _wrapped(linear):
        return linear.weight.detach().float()
    layer: Any = linear
    weight = layer.get_base_layer().weight.detach().float()
    if layer.merged or layer.disable_adapters:
        return weight
    for adapter in layer.active_adapters:
        if adapter in getattr(layer, "lora_A", {}):
            if getattr(layer, "use_dora", {}).get(adapter):
                raise BadInput("cannot track DoRA adapters; supported: plain LoRA")
            weight = weight + layer.get_delta_weight(adapter).detach().float()
    return weight


def bias_of(linear: Any) -> Tensor | None:
    """The bias of a linear layer, a LoRA wrapper around it or not."""
    inner: Any = linear.get_base_layer() if _wrapped(linear) else linear
    return inner.bias


def _wrapped(linear: Any) -> bool:
    return _of_peft(linear, "peft.tuners.tuners_utils", "BaseTunerLayer")


def _of_peft(thing: Any, module: str, name: str) -> bool:
    # PEFT takes seconds to load, and nothing is of its classes where nobody has loaded it.
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(thing, getattr(loaded, name))
