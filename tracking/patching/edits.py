"""Runs of a decoder in which a part reads or gives something else than it would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
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
        hook = block.mlp_out.register_forward_hook(lambda _module, _args, _out: output)
    try:
        yield
    finally:
        hook.remove()


class Editor(Protocol):
    """Decides what the parts of a decoder read, and which of them run at all.

    Streams and what it is told are float32; [row, position, width] where nothing else is said.
    """

    def reads(self, layer: int) -> tuple[Tensor, ...] | None:
        """q, k and v of the heads that run, [row, position, running head * head_dim] each; None
        where no head of the layer does."""
        ...

    def z(self, layer: int, z: Tensor) -> None:
        """Told what the heads that run give, [row, position, running head * head_dim]."""
        ...

    def mlp(self, layer: int) -> Tensor | None:
        """What the MLP reads, before its norm; None where it does not run."""
        ...

    def mlp_out(self, layer: int, out: Tensor) -> None:
        """Told what the MLP writes."""
        ...

    def logits(self) -> Tensor:
        """What the last norm reads."""
        ...


@contextmanager
def edited(decoder: Decoder, editor: Editor) -> Iterator[None]:
    """Within it every pass of the decoder reads what `editor` says; restored as by `tapped`.

    The residual stream itself carries nothing then: the parts are asked and told one by one, in
    order. Masks, positions, rotary embeddings, q/k norms and the attention kernel are the model's.
    """
    with ExitStack() as stack:
        stack.enter_context(quiet(decoder))
        for layer, block in enumerate(decoder.blocks):
            _edit_attention(stack, block, editor, layer)
            _edit_mlp(stack, block, editor, layer)
            stack.enter_context(ungrouped(block))

        def logits(_module: nn.Module, args: tuple) -> tuple:
            return (editor.logits().to(args[0]),)

        stack.callback(decoder.last_norm.register_forward_pre_hook(logits).remove)
        yield


def _edit_attention(stack: ExitStack, block: Block, editor: Editor, layer: int) -> None:
    attend, reads = block.attention.forward, []

    def attention(hidden_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        of_heads = editor.reads(layer)
        if of_heads is not None:
            reads[:] = [read.to(hidden_states) for read in of_heads]
            attend(hidden_states, *args, **kwargs)
        return _nothing(hidden_states), None

    def z(given: Tensor) -> Tensor:
        editor.z(layer, given[..., : reads[0].shape[-1]].float())
        return given

    stack.enter_context(_forward(block.attention_norm, lambda stream: stream))
    stack.enter_context(_forward(block.attention, attention))
    if block.fused:
        stack.enter_context(_forward(block.fused, lambda _stream: _padded(reads, block)))
    else:
        for place, projection in enumerate(block.reads):
            stack.enter_context(_forward(projection, lambda _stream, place=place: reads[place]))
    stack.enter_context(_forward(block.o, z))


def _padded(reads: list[Tensor], block: Block) -> Tensor:
    """q, k and v of the heads that run in one, as an attention needs them that cuts them out by
    its own number of heads: there are heads of zeros behind the last, whose z nobody is told."""
    missing = block.o.in_features - reads[0].shape[-1]
    return torch.cat([nn.functional.pad(read, (0, missing)) for read in reads], dim=-1)


def _edit_mlp(stack: ExitStack, block: Block, editor: Editor, layer: int) -> None:
    norm, run = block.mlp_norm.forward, block.mlp.forward
    behind = block.mlp_behind.forward if block.mlp_behind else None

    def mlp(hidden_states: Tensor) -> Tensor:
        stream = editor.mlp(layer)
        if stream is not None:
            given = run(norm(stream.to(hidden_states)))
            editor.mlp_out(layer, (behind(given) if behind else given).float())
        return _nothing(hidden_states)

    stack.enter_context(_forward(block.mlp_norm, lambda stream: stream))
    stack.enter_context(_forward(block.mlp, mlp))


def _nothing(stream: Tensor) -> Tensor:
    """Zeros of a stream's shape, without its memory; a norm makes zeros of them."""
    return stream.new_zeros(()).expand_as(stream)


@contextmanager
def _forward(module: Any, forward: Callable) -> Iterator[None]:
    """Within it a module computes `forward` instead of what it is; its hooks stay."""
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before
