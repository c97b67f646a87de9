"""What is wrapped around a decoder: DDP, `torch.compile`, PEFT and its LoRA adapters."""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor, nn

from tracking.errors import BadInput

LAYERS = "peft.tuners.tuners_utils"


def unwrap(model: Any) -> Any:
    """The Hugging Face model inside DDP, `torch.compile` and PEFT (its adapters stay in place)."""
    while True:
        if _is_peft(model, "peft", "PeftModel"):
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
    if not _is_peft(linear, LAYERS, "BaseTunerLayer"):
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
    inner: Any = linear.get_base_layer() if _is_peft(linear, LAYERS, "BaseTunerLayer") else linear
    return inner.bias


def _is_peft(module: Any, place: str, name: str) -> bool:
    """Whether a module is of this class of PEFT's, which is not imported for it: no module can be
    where nobody has imported PEFT, and that takes seconds."""
    peft = sys.modules.get(place)
    return peft is not None and isinstance(module, getattr(peft, name))
