"""What the parts of a decoder read and write in a pass, seen through hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from tracking.model.architecture import Block
from tracking.model.decoder import Decoder
from tracking.model.grouped_query import per_query_head, ungrouped


@dataclass
class LayerTaps:
    """What was seen in one layer of one pass; every tensor is [row, position, ...]."""

    stream: Tensor = field(init=False)  # [.., width] what the heads read, before the norm
    reads: list[GradientEdge] = field(default_factory=list)  # q, k, v: [.., head * head_dim] each
    z: Tensor = field(init=False)  # [.., head * head_dim] the input of o_proj
    attended: Tensor = field(init=False)  # [.., width] from the norm behind o, where there is one
    mlp_stream: Tensor = field(init=False)  # [.., width] what the MLP reads, before the norm
    mlp_out: Tensor = field(init=False)  # [.., width] what the MLP writes


@dataclass
class Taps:
    """What was seen in the last pass of a tapped model."""

    layers: list[LayerTaps]
    outputs: bool = True  # whether `z` and `mlp_out` are kept
    logits_stream: Tensor = field(init=False)  # [row, position, width], before the final norm

    def clear(self) -> None:
        """Let go of everything, so that it does not stand beside the next pass in memory."""
        self.layers[:] = [LayerTaps() for _ in self.layers]
        del self.logits_stream


@contextmanager
def tapped(decoder: Decoder) -> Iterator[Taps]:
    """Within it every pass of the decoder leaves its activations in the `Taps` that it yields.

    The model is in eval mode, its parameters need no gradients and K and V are ungrouped; mode,
    flags and hooks are as before on leaving, also after an exception. Gradients at `mlp_stream`
    and `logits_stream` are those of the branch that reads there, not of the stream beside it.
    """
    taps = Taps([LayerTaps() for _ in decoder.blocks])
    with ExitStack() as stack:
        stack.enter_context(quiet(decoder))
        for layer, block in enumerate(decoder.blocks):
            for hook in _layer_hooks(decoder, block, taps, layer):
                stack.callback(hook.remove)
            stack.enter_context(ungrouped(block))
        hook = decoder.last_norm.register_forward_pre_hook(_alias(taps, "logits_stream"))
        stack.callback(hook.remove)
        yield taps


@contextmanager
def quiet(decoder: Decoder) -> Iterator[None]:
    """Eval mode and parameters without gradients, put back on leaving exactly as they were."""
    modules = [*decoder.backbone.modules(), *decoder.lm_head.modules()]
    modes = [(module, module.training) for module in modules]
    flags = [(p, p.requires_grad) for module in modules for p in module.parameters(recurse=False)]
    try:
        for module in modules:
            module.training = False
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextmanager
def undisturbed(decoder: Decoder) -> Iterator[None]:
    """Within it passes keep nothing for gradients, and run in eval mode and the model's dtype."""
    with torch.no_grad(), quiet(decoder), torch.autocast(decoder.device.type, enabled=False):
        yield


def _layer_hooks(decoder: Decoder, block: Block, taps: Taps, layer: int) -> Iterator:

    def begin(_module: nn.Module, args: tuple) -> None:
        taps.layers[layer] = LayerTaps()
        taps.layers[layer].stream = args[0]

    def read(_module: nn.Module, _args: tuple, out: Tensor) -> Tensor:
        out = per_query_head(out, decoder.n_heads, decoder.head_dim)
        if out.requires_grad:  # only where its gradient goes: its values would fill the memory
            taps.layers[layer].reads.append(get_gradient_edge(out))
        return out

    def fused_read(module: nn.Module, args: tuple, out: Tensor) -> Tensor:
        parts = (out[..., projection.rows] for projection in block.reads)
        return torch.cat([read(module, args, part) for part in parts], dim=-1)

    def z(_module: nn.Module, args: tuple) -> None:
        if taps.outputs:
            taps.layers[layer].z = args[0]

    def attended(_module: nn.Module, _args: tuple, out: Tensor) -> None:
        if taps.outputs:
            taps.layers[layer].attended = out

    def mlp_out(_module: nn.Module, _args: tuple, out: Tensor) -> None:
        if taps.outputs:
            taps.layers[layer].mlp_out = out

    def mlp_stream(module: nn.Module, args: tuple) -> tuple:
        return _alias(taps.layers[layer], "mlp_stream")(module, args)

    yield block.attention_norm.register_forward_pre_hook(begin)
    if block.fused:
        yield block.fused.register_forward_hook(fused_read)
    else:
        for projection in block.reads:
            yield projection.register_forward_hook(read)
    yield block.o.register_forward_pre_hook(z)
    if block.attention_behind:
        yield block.attention_behind.register_forward_hook(attended)
    yield block.mlp_norm.register_forward_pre_hook(mlp_stream)
    yield block.mlp_out.register_forward_hook(mlp_out)


def _alias(place: object, name: str) -> Callable:
    """A pre-hook that hands on a view of the input, so that its gradient is the branch's alone."""

    def hook(_module: nn.Module, args: tuple) -> tuple:
        view = args[0].view_as(args[0])
        setattr(place, name, view)
        return (view, *args[1:])

    return hook


@contextmanager
def attention_patterns(decoder: Decoder, see: Callable[[Tensor], None]) -> Iterator[None]:
    """Within it every pass gives `see` the attention weights of one layer after the other, float32
    [row, head, query, key]; they are computed by the eager implementation, the only one that has
    them, and the model's own is back on leaving."""
    before = decoder.causal.config._attn_implementation

    def attended(_module: nn.Module, _args: tuple, out: tuple[Tensor, Tensor]) -> None:
        see(out[1].float())

    with ExitStack() as stack:
        stack.callback(decoder.causal.set_attn_implementation, before)
        decoder.causal.set_attn_implementation("eager")
        for block in decoder.blocks:
            stack.callback(block.attention.register_forward_hook(attended).remove)
        yield
