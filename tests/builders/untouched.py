"""What an analysis must leave as it was."""

from typing import Any

import torch
from torch import Tensor


def everything(model: Any) -> dict[str, Any]:
    """What an analysis must not change, tensors as copies."""
    hooks = [name for name in vars(torch.nn.Module()) if name.endswith("hooks")]
    assert "_forward_hooks" in hooks and "_forward_pre_hooks" in hooks
    modules = dict(model.named_modules())
    return {
        "weights": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "parameters": {name: id(p) for name, p in model.named_parameters()},
        "grads": {n: None if p.grad is None else id(p.grad) for n, p in model.named_parameters()},
        "grad": {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None},
        "flags": {name: p.requires_grad for name, p in model.named_parameters()},
        "modes": {name: module.training for name, module in modules.items()},
        "hooks": {n: [list(vars(m)[name]) for name in hooks] for n, m in modules.items()},
        "attributes": {name: set(vars(module)) for name, module in modules.items()},
        "groups": {n: getattr(m, "num_key_value_groups", None) for n, m in modules.items()},
        "random": torch.get_rng_state(),
        "kernel": model.config._attn_implementation,
        "grad mode": torch.is_grad_enabled(),
    }


def assert_same(before: Any, after: Any) -> None:
    if isinstance(before, dict):
        assert before.keys() == after.keys()
        for key in before:
            assert_same(before[key], after[key])
    elif isinstance(before, Tensor):
        assert torch.equal(before, after)
    else:
        assert before == after
