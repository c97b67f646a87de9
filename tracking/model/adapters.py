"""What is wrapped around a decoder: DDP, `torch.compile`, PEFT and its LoRA adapters.

An analysis reads projections as a weight and a bias. Of PEFT's adapters only LoRA's change is known
as such; any other is refused by name, unless it is merged into the weights or disabled.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from tracking.errors import BadInput
from tracking.model.architecture import Rows

LAYERS = "peft.tuners.tuners_utils"
READABLE = ("lora", "adalora", "trainable_tokens")  # kinds that patching reads as the model does
TRAINED_BESIDE = ("modules_to_save", "trainable_token_indices")  # by LoRA's settings
ADVICE = "supported: LoRA; or merge it into the weights first (model.merge_and_unload())"


def unwrap(model: Any) -> Any:
    """The Hugging Face model inside DDP, `torch.compile` and PEFT (its adapters stay in place).

    Raises `BadInput` where one of its live adapters cannot be read.
    """
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
            _check_layers(model)
            return model


def merged_copy(model: Any) -> Any:
    """A copy of the Hugging Face model inside, its live LoRA adapters merged into its weights.

    Raises `BadInput` where it has adapters that no `PeftModel` around it knows how to merge.
    """
    while not _is_peft(model, "peft", "PeftModel") and unwrap(model) is not model:
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module
    copied = copy.deepcopy(model)
    if _is_peft(copied, "peft", "PeftModel"):
        off = any(layer.disable_adapters for layer in _adapter_layers(copied))
        copied = copied.unload() if off else copied.merge_and_unload()
    if _adapter_layers(copied):
        raise BadInput("the model has adapters that cannot be merged here; merge them first")
    return copied


def without_adapters(model: Any) -> Any | None:
    """The model that a `PeftModel` was made of, with the same weights in memory and none of the
    adapters; None where its own weights are not those of before (no PEFT, something trained beside
    or merged into them, an initialisation that takes something out of them), or where Accelerate
    moves them about."""
    if not _is_peft(model, "peft", "PeftModel") or _any_has(model, "_hf_hook"):
        return None
    for config in model.peft_config.values():
        beside = (getattr(config, name, None) for name in TRAINED_BESIDE)
        initial = getattr(config, "init_lora_weights", True)
        if any(beside) or initial not in (True, False, "gaussian"):
            return None
    if any(layer.merged for layer in _adapter_layers(model)):
        return None
    shared = {id(weight): weight for weight in [*model.parameters(), *model.buffers()]}
    bare = copy.deepcopy(model, shared).unload()
    vars(bare).pop("forward", None)  # TRL's own would call the adapted model's
    return None if any(weight.requires_grad for weight in bare.parameters()) else bare


def _any_has(model: nn.Module, name: str) -> bool:
    return any(name in vars(module) for module in model.modules())


def _adapter_layers(model: Any) -> list[Any]:
    return [layer for layer in model.modules() if _is_peft(layer, LAYERS, "BaseTunerLayer")]


def check_config(config: Mapping[str, Any]) -> None:
    """Raise `BadInput` where the adapter that an `adapter_config.json` describes cannot be read."""
    kind = str(config.get("peft_type")).lower()
    if kind not in READABLE:
        raise BadInput(_refusal(f"a {kind.upper()} adapter"))
    if config.get("use_dora"):
        raise BadInput(_refusal("a DoRA adapter"))
    if config.get("lora_bias"):
        raise BadInput(_refusal("LoRA with lora_bias, which changes biases too"))


def _check_layers(model: Any) -> None:
    """Raise `BadInput` for the first live adapter whose change of the weights cannot be read."""
    if LAYERS not in sys.modules or not isinstance(model, nn.Module):
        return
    for name, layer in model.named_modules():
        if not _is_peft(layer, LAYERS, "BaseTunerLayer") or _asleep(layer):
            continue
        if what := _unreadable(layer):
            raise BadInput(f"{_refusal(what)}; it is at {name}")


def _asleep(layer: Any) -> bool:
    """Whether an adapter layer gives what the weights inside it give alone."""
    return layer.merged or layer.disable_adapters


def _unreadable(layer: Any) -> str:
    """What is active in an adapter layer that no weight tells; empty where all can be read."""
    place = type(layer).__module__.split(".")  # peft.tuners.<kind>...
    if place[:2] != ["peft", "tuners"] or place[2] not in READABLE:
        kind = place[2].upper() if place[0] == "peft" else type(layer).__name__
        return f"a {kind} adapter"
    for adapter in layer.active_adapters:
        if getattr(layer, "use_dora", {}).get(adapter):
            return "a DoRA adapter"
        if getattr(layer, "lora_bias", {}).get(adapter):
            return "LoRA with lora_bias, which changes biases too"
        if variant := getattr(layer, "lora_variant", {}).get(adapter):
            return f"LoRA's {type(variant).__name__}"
    return ""


def _refusal(what: str) -> str:
    return f"cannot track {what}; {ADVICE}"


def effective_weight(linear: Any) -> Tensor:
    """Float32 [out, in]: a linear layer's weight with its active, unmerged LoRA adapters added."""
    if isinstance(linear, Rows):
        return effective_weight(linear.whole)[linear.rows]
    if not _is_peft(linear, LAYERS, "BaseTunerLayer"):
        return linear.weight.detach().float()
    layer: Any = linear
    weight = layer.get_base_layer().weight.detach().float()
    if _asleep(layer):
        return weight
    for adapter in layer.active_adapters:
        if adapter in getattr(layer, "lora_A", {}):
            weight = weight + layer.get_delta_weight(adapter).detach().float()
    return weight


def bias_of(linear: Any) -> Tensor | None:
    """The bias of a linear layer, a LoRA wrapper around it or not."""
    if isinstance(linear, Rows):
        whole = bias_of(linear.whole)
        return None if whole is None else whole[linear.rows]
    inner: Any = linear.get_base_layer() if _is_peft(linear, LAYERS, "BaseTunerLayer") else linear
    return inner.bias


def _is_peft(module: Any, place: str, name: str) -> bool:
    """Whether a module is of this class of PEFT's, which is not imported for it: no module can be
    where nobody has imported PEFT, and that takes seconds."""
    peft = sys.modules.get(place)
    return peft is not None and isinstance(module, getattr(peft, name))
