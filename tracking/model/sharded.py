"""Models of which no process holds all weights: under DeepSpeed's ZeRO-3 and FSDP.

The live model cannot be analysed there: every pass through it is a collective of all processes.
What is analysed is what was saved, loaded whole on one process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.integrations import is_deepspeed_zero3_enabled, is_fsdp_managed_module

from tracking.errors import BadInput


def is_sharded(model: nn.Module) -> bool:
    """Whether no process holds all weights of a model in training.

    Raises `BadInput` where its checkpoints would not hold them either.
    """
    if is_deepspeed_zero3_enabled():
        _check_zero3()
        return True
    if is_fsdp_managed_module(model):
        _check_fsdp()
        return True
    return False


def _check_zero3() -> None:
    from transformers.integrations.deepspeed import deepspeed_config

    if not deepspeed_config()["zero_optimization"].get(  # type: ignore[index]
        "stage3_gather_16bit_weights_on_model_save"
    ):
        raise BadInput(
            "cannot track under ZeRO-3 whose checkpoints have no whole weights: set "
            "zero3_save_16bit_model: true (stage3_gather_16bit_weights_on_model_save)"
        )


def _check_fsdp() -> None:
    # here, because analyses by themselves need no accelerate
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedType

    state = AcceleratorState()
    plugin = state.fsdp_plugin if state.distributed_type == DistributedType.FSDP else None
    if plugin is None or plugin.fsdp_version != 2:
        raise BadInput("cannot track under this FSDP: use accelerate's, with fsdp_version: 2")
    if plugin.state_dict_type.name != "FULL_STATE_DICT":
        raise BadInput(
            "cannot track under FSDP whose checkpoints have no whole weights: set "
            "fsdp_state_dict_type: FULL_STATE_DICT"
        )


@contextmanager
def outside_sharding() -> Iterator[None]:
    """A model that is loaded in it is whole, on the process that loads it alone; ZeRO-3 would
    otherwise shard every model that is made in its processes."""
    from transformers.integrations import deepspeed

    config = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = config


def load_saved(folder: Path) -> nn.Module:
    """The model that lies in a folder, an adapter on its base, on the GPU where there is one."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")
