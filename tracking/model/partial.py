"""Passes that begin in the middle of a decoder, from streams that an earlier pass left.

What a node alone changes is known without the layers before it, and a head's without its attention:
z enters the stream linearly, so where one head gives another run's z,

    stream after attention = kept stream + W_o of the head (z of the other run - kept z)

and only the layer's own MLP and the layers after it have to run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tracking.model.architecture import Block
from tracking.model.decoder import Decoder, embed, run
from tracking.model.passes import logits
from tracking.model.taps import tapped
from tracking.pairs.prompt_pairs import PromptPairs


@dataclass(frozen=True)
class KeptLayer:
    """What one layer left in a pass, in the model's own precision."""

    z: Tensor  # [row, position, head * head_dim], the input of o_proj
    mid: Tensor  # [row, position, width], the stream between attention and MLP
    mlp_out: Tensor  # [row, position, width]

    def at(self, positions: Tensor) -> KeptLayer:
        """The same at `positions` [row, look] alone."""
        return KeptLayer(*(_at(part, positions) for part in (self.z, self.mid, self.mlp_out)))


@dataclass(frozen=True)
class Kept:
    """What a pass left."""

    layers: list[KeptLayer]
    logits: Tensor  # float32 [row, look, vocabulary]

    @classmethod
    def of(cls, decoder: Decoder, pairs: PromptPairs, token_ids: Tensor) -> Kept:
        """Of the pass on `token_ids` [row, position], the clean or the corrupted prompts."""
        with tapped(decoder) as taps:
            given = logits(decoder, embed(decoder, token_ids), pairs)
            layers = [KeptLayer(tap.z, tap.mlp_stream, tap.mlp_out) for tap in taps.layers]
        return cls(layers, given)


def with_heads_of(
    decoder: Decoder, layer: int, here: KeptLayer, other: KeptLayer, heads: Tensor
) -> Tensor:
    """[head, row, position, width]: the stream after the layer where each of `heads`, LongTensor
    [head], alone gives the other run's z; the layer's MLP reads what that makes."""
    size = decoder.head_dim
    change = (other.z.float() - here.z.float()).unflatten(-1, (-1, size))[:, :, heads]
    weight = decoder.projection(layer, "o").T.unflatten(0, (-1, size))[heads]
    writes = torch.einsum("bphe,hed->hbpd", change, weight)
    mid = (here.mid.float() + writes).to(here.mid)
    return _after_mlp(decoder.blocks[layer], mid.flatten(0, 1)).unflatten(0, mid.shape[:2])


def with_mlp_of(here: KeptLayer, other: KeptLayer) -> Tensor:
    """[row, position, width]: the stream after the layer where its MLP gives the other run's
    output."""
    return here.mid + other.mlp_out


def last_stream(
    decoder: Decoder, layer: int, stream: Tensor, mask: Tensor, positions: Tensor
) -> Tensor:
    """[row, look, width]: what `lm_head` reads at `positions` [row, look] in a pass that begins
    before `layer` with `stream` [row, position, width]; `mask` [row, position] is 0 on padding.

    After the last layer (`layer` is their number) `stream` is [row, look, width] already.
    """
    if layer == len(decoder.blocks):
        return decoder.last_norm(stream).to(decoder.device)
    with _beginning(decoder, layer, positions):
        return run(decoder, stream, mask)


@contextmanager
def _beginning(decoder: Decoder, layer: int, positions: Tensor) -> Iterator[None]:
    """Within it the backbone runs no layer before `layer`, and its last one gives the stream at
    `positions` alone: what no later attention reads is not computed. Put back on leaving."""
    before = list(decoder.layers)
    try:
        for place in range(layer):
            decoder.layers[place] = PassThrough()
        decoder.layers[-1] = LastLayer(decoder.blocks[-1], positions)
        yield
    finally:
        for place, module in enumerate(before):
            decoder.layers[place] = module


class PassThrough(nn.Module):
    """Stands where a layer is not run."""

    def forward(self, stream: Tensor, **_context: Any) -> Tensor:
        return stream


class LastLayer(nn.Module):
    """The last layer, whose MLP runs only at `positions` [row, look]."""

    def __init__(self, block: Block, positions: Tensor) -> None:
        super().__init__()
        self.block, self.positions = block, positions

    def forward(self, stream: Tensor, **context: Any) -> Tensor:
        stream = stream.to(self.block.attention_norm.weight.device)
        read = self.block.attention_norm(stream)
        attended, _ = self.block.attention(hidden_states=read, **context)
        return _after_mlp(self.block, _at(stream + attended, self.positions))


@contextmanager
def exchanged(decoder: Decoder, nodes: Tensor, other: Kept) -> Iterator[None]:
    """Within it the heads and MLPs of `nodes`, BoolTensor [layer, head, then the MLP], give what
    they gave in the other run, whatever they read."""

    def z_hook(columns: Tensor, z: Tensor) -> Any:
        return lambda _module, args: (torch.where(columns, z, args[0]), *args[1:])

    def mlp_hook(mlp_out: Tensor) -> Any:
        return lambda _module, _args, _out: mlp_out

    layers = zip(decoder.blocks, nodes, other.layers, strict=True)
    with ExitStack() as stack:
        for block, chosen, kept in layers:
            columns = chosen[:-1].repeat_interleave(decoder.head_dim).to(kept.z.device)
            hooks = [block.o.register_forward_pre_hook(z_hook(columns, kept.z))]
            if bool(chosen[-1]):
                hooks.append(block.mlp.register_forward_hook(mlp_hook(kept.mlp_out)))
            for hook in hooks:
                stack.callback(hook.remove)
        yield


def _after_mlp(block: Block, mid: Tensor) -> Tensor:
    return mid + block.mlp(block.mlp_norm(mid))


def _at(values: Tensor, positions: Tensor) -> Tensor:
    """[row, look, ...]: values [row, position, ...] at `positions` [row, look]."""
    positions = positions.to(values.device)
    rows = torch.arange(len(positions), device=positions.device)[:, None]
    return values[rows, positions]
