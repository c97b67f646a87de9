"""Passes that begin in the middle of a decoder, from streams that an earlier pass left.

What a node alone changes is known without the layers before it, and a head's without its attention:
z enters the stream linearly, so where one head writes what it wrote in another run,

    stream after attention = kept stream + W_o of the head (z of the other run - kept z)

(a norm behind attention is taken again, of the sum of all heads), and only the layer's own MLP and
the layers after it have to run. The other run may be another model's of the same shape, on the same
tokens; then the head's W_o is that model's too:

    stream after attention = kept stream + W_o' (z' - z) + (W_o' - W_o) z
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tracking.model.adapters import bias_of
from tracking.model.architecture import Block
from tracking.model.decoder import Decoder, run
from tracking.model.ends import Kept, KeptLayer, at
from tracking.model.graph import Graph
from tracking.model.past import Past


@dataclass(frozen=True)
class Chosen:
    """Some nodes of one layer, heads before the MLP."""

    layer: int
    heads: Tensor  # LongTensor [head], within the layer
    mlp: bool
    places: Tensor  # LongTensor [node], in `Graph.nodes`


def side_by_side(graph: Graph, nodes: Tensor, count: int) -> Iterator[Chosen]:
    """All of `nodes`, BoolTensor [node], up to `count` of one layer at a time."""
    for layer, asked in enumerate(nodes.view(graph.n_layers, -1)):
        here = asked.nonzero()[:, 0]
        for slots in here.split(count) if len(here) else ():
            heads = slots[slots < graph.n_heads]
            yield Chosen(layer, heads, len(heads) < len(slots), layer * len(asked) + slots)


def streams_with(
    here: Kept,
    other: Kept,
    chosen: Chosen,
    mask: Tensor,
    positions: Tensor,
    past: Past | None = None,
) -> Tensor:
    """[node, row, look, width]: what `lm_head` reads at `positions` [row, look] of the run `here`
    where each of the chosen nodes alone writes what it wrote in the other run, which is the same
    decoder's, or another's of its shape. Both go on from the `past`."""
    decoder, layer = here.decoder, chosen.layer
    ours, theirs = here.layers[layer], other.layers[layer]
    if layer == len(decoder.blocks) - 1:  # nothing reads the other positions any more
        ours, theirs = ours.at(positions), theirs.at(positions)
    streams = _with_heads_of(decoder, ours, other.decoder, theirs, chosen)
    if chosen.mlp:
        streams = torch.cat([streams, (ours.mid + theirs.mlp_out)[None]])
    count = len(streams)
    mask, where = mask.repeat(count, 1), positions.repeat(count, 1)
    last = last_stream(decoder, layer + 1, streams.flatten(0, 1), mask, where, past)
    return last.unflatten(0, (count, -1))


def _with_heads_of(
    decoder: Decoder, ours: KeptLayer, donor: Decoder, theirs: KeptLayer, chosen: Chosen
) -> Tensor:
    """[head, row, position, width]: the stream after the layer where each head alone writes what it
    wrote in the other run; the layer's MLP reads what that makes."""
    weight = donor.projection(chosen.layer, "o")
    writes = _writes(weight, theirs.z.float() - ours.z.float(), decoder.head_dim, chosen.heads)
    if donor is not decoder:
        change = weight - decoder.projection(chosen.layer, "o")
        writes += _writes(change, ours.z.float(), decoder.head_dim, chosen.heads)
    block = decoder.blocks[chosen.layer]
    if behind := block.attention_behind:
        given = nn.functional.linear(ours.z.float(), decoder.projection(chosen.layer, "o"))
        writes = decoder.normed(behind, given + writes) - decoder.normed(behind, given)
    mid = (ours.mid.float() + writes).to(ours.mid)
    return block.after_mlp(mid.flatten(0, 1)).unflatten(0, mid.shape[:2])


def _writes(weight: Tensor, z: Tensor, size: int, heads: Tensor) -> Tensor:
    """[head, row, position, width] of `z` [row, position, all heads * size], through `weight`
    [width, all heads * size]."""
    of_heads = weight.T.unflatten(0, (-1, size))[heads]
    return torch.einsum("bphe,hed->hbpd", z.unflatten(-1, (-1, size))[:, :, heads], of_heads)


def last_stream(
    decoder: Decoder,
    layer: int,
    stream: Tensor,
    mask: Tensor,
    positions: Tensor,
    past: Past | None = None,
) -> Tensor:
    """[row, look, width]: what `lm_head` reads at `positions` [row, look] in a pass that begins
    before `layer` with `stream` [row, position, width] and goes on from a `past`; `mask` [row,
    position] is 0 on padding.

    After the last layer (`layer` is their number) `stream` is [row, look, width] already.
    """
    if layer == len(decoder.blocks):
        return decoder.last_norm(stream).to(decoder.device)
    with _beginning(decoder, layer, positions):
        return run(decoder, stream, mask, past)


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
        stream = self.block.after_attention(stream, attended)
        return self.block.after_mlp(at(stream, self.positions))


@contextmanager
def exchanged(decoder: Decoder, nodes: Tensor, other: Kept) -> Iterator[None]:
    """Within it the heads and MLPs of `nodes`, BoolTensor [layer, head, then the MLP], write what
    they wrote in the other run, the same decoder's or another's of its shape, whatever they read.

    The bias of an output projection, and the weight of a norm behind attention, are no head's: they
    are the other's where all heads of their layer are exchanged.
    """
    layers = zip(decoder.blocks, other.decoder.blocks, nodes, other.layers, strict=True)
    with ExitStack() as stack:
        for layer, (block, donor, chosen, kept) in enumerate(layers):
            columns = chosen[:-1].repeat_interleave(decoder.head_dim).to(kept.z.device)
            if bool(columns.any()):
                weight = other.decoder.projection(layer, "o").to(kept.z)
                write = nn.functional.linear(kept.z.masked_fill(~columns, 0), weight)
                if bool(columns.all()):
                    write = write + _bias_change(block, donor)
                    if behind := donor.attention_behind:
                        normed = other.decoder.normed(behind, write.float()).to(write)
                        hook = block.attention_behind.register_forward_hook(_instead(normed))
                        stack.callback(hook.remove)
                for hook in _writing(block.o, columns, write):
                    stack.callback(hook.remove)
            if bool(chosen[-1]):
                hook = block.mlp_out.register_forward_hook(_instead(kept.mlp_out))
                stack.callback(hook.remove)
        yield


def _writing(o: nn.Module, columns: Tensor, write: Tensor) -> Iterator[RemovableHandle]:
    """Hooks on an output projection by which the features `columns` write `write` instead."""

    def silence(_module: nn.Module, args: tuple) -> tuple:
        return (args[0].masked_fill(columns, 0), *args[1:])

    def add(_module: nn.Module, _args: tuple, out: Tensor) -> Tensor:
        return out + write

    yield o.register_forward_pre_hook(silence)
    yield o.register_forward_hook(add)


def _instead(given: Tensor) -> Any:
    return lambda _module, _args, _out: given


def _bias_change(ours: Block, theirs: Block) -> Tensor | float:
    """[width]: the other's bias of the output projection less our own."""
    biases = bias_of(ours.o), bias_of(theirs.o)
    if biases[0] is None or biases[1] is None:
        return 0.0
    return biases[1].detach() - biases[0].detach()
