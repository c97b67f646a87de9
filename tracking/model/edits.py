"""Runs of a decoder in which a part reads or gives something else than it would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

from torch import Tensor, nn

from tracking.model.architecture import Block
from tracking.model.decoder import Decoder
from tracking.model.grouped_query import ungrouped
from tracking.model.taps import quiet


@contextmanager
def replaced(decoder: Decoder, layer: int, part: str, output: Tensor) -> Iterator[None]:
    """Within it the heads' z or the MLP's output (`part`: `z`, `mlp_out`) of a layer are
    `output`, whatever they read."""
    block = decoder.blocks[layer]
    if part == "z":
        hook = block.o.register_forward_pre_hook(lambda _module, _args: (output,))
    else:
        hook = block.mlp.register_forward_hook(lambda _module, _args, _out: output)
    try:
        yield
    finally:
        hook.remove()


class Editor(Protocol):
    """Decides what each part of a decoder reads; all streams are float32 [row, position, width]."""

    def attention(self, layer: int, stream: Tensor) -> Tensor:
        """What q, k and v of each head read: [row, 3 * head, position, width]."""
        ...

    def z(self, layer: int, z: Tensor) -> None:
        """Told what the heads give, [row, position, head * head_dim]."""
        ...

    def mlp(self, layer: int, stream: Tensor) -> Tensor:
        """What the MLP reads."""
        ...

    def mlp_out(self, layer: int, out: Tensor) -> None:
        """Told what the MLP writes."""
        ...

    def logits(self, stream: Tensor) -> Tensor:
        """What the last norm reads."""
        ...


@contextmanager
def edited(decoder: Decoder, editor: Editor) -> Iterator[None]:
    """Within it every pass of the decoder reads what `editor` says; restored as by `tapped`."""
    with ExitStack() as stack:
        stack.enter_context(quiet(decoder))
        for layer, block in enumerate(decoder.blocks):
            for hook in _edit_hooks(decoder, block, editor, layer):
                stack.callback(hook.remove)
            stack.enter_context(ungrouped(block))

        def logits(_module: nn.Module, args: tuple) -> tuple:
            return (editor.logits(args[0].float()).to(args[0]),)

        stack.callback(decoder.last_norm.register_forward_pre_hook(logits).remove)
        yield


def _edit_hooks(decoder: Decoder, block: Block, editor: Editor, layer: int) -> Iterator:
    reads: list[Tensor] = []

    def begin(_module: nn.Module, args: tuple) -> None:
        streams = editor.attention(layer, args[0].float())
        reads[:] = [read.to(args[0]) for read in decoder.reads(layer, streams)]

    def read(_module: nn.Module, _args: tuple, _out: Tensor) -> Tensor:
        return reads.pop(0)

    def z(_module: nn.Module, args: tuple) -> None:
        editor.z(layer, args[0].float())

    def mlp(_module: nn.Module, args: tuple) -> tuple:
        return (editor.mlp(layer, args[0].float()).to(args[0]),)

    def mlp_out(_module: nn.Module, _args: tuple, out: Tensor) -> None:
        editor.mlp_out(layer, out.float())

    yield block.attention_norm.register_forward_pre_hook(begin)
    for projection in block.reads:
        yield projection.register_forward_hook(read)
    yield block.o.register_forward_pre_hook(z)
    yield block.mlp_norm.register_forward_pre_hook(mlp)
    yield block.mlp.register_forward_hook(mlp_out)
