"""Hooks that change what heads and MLPs give: z before the output projection, an MLP's output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from tracking.errors import BadInput
from tracking.model.decoder import Decoder

Rewrite = Callable[[Tensor], Tensor]
"""From what a place gives, [row, position, feature], to what it is to give."""


@contextmanager
def rewritten(
    decoder: Decoder, heads: Mapping[int, Rewrite], mlps: Mapping[int, Rewrite]
) -> Iterator[None]:
    """Within it z (all heads of a layer) and MLPs' outputs, by layer, are what `heads` and `mlps`
    make of them; other layers run as they are. Nested, the outer one comes first."""

    def z_hook(rewrite: Rewrite) -> Any:
        return lambda _module, args: (rewrite(args[0]), *args[1:])

    def mlp_hook(rewrite: Rewrite) -> Any:
        return lambda _module, _args, out: rewrite(out)

    with ExitStack() as stack:
        for layer, rewrite in heads.items():
            hook = decoder.blocks[layer].o.register_forward_pre_hook(z_hook(rewrite))
            stack.callback(hook.remove)
        for layer, rewrite in mlps.items():
            hook = decoder.blocks[layer].mlp_out.register_forward_hook(mlp_hook(rewrite))
            stack.callback(hook.remove)
        yield


def check_eager(model: nn.Module) -> None:
    """Raise `BadInput` where a part of `model` is compiled: it would run without the hooks."""
    for module in model.modules():
        if hasattr(module, "_orig_mod") or module._compiled_call_impl is not None:
            raise BadInput(
                "a model that torch.compile has compiled runs without hooks; give it as it was"
            )
