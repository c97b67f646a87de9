"""Reads what the parts of a Hugging Face decoder read and write; the only file that knows modules.

Supported are decoders in which every layer is

    stream = stream + o_proj(attention(q_proj(norm(stream)), k_proj(...), v_proj(...)))
    stream = stream + mlp(norm(stream))

with RMS norms: Qwen2, Qwen3, Llama and Mistral. Anything else is refused by name.

While a model is `tapped`, K and V are ungrouped: the projections' outputs are repeated for every
query head and the layer's `num_key_value_groups` is 1, so that attention, q/k norms and rotary
embeddings work per query head unchanged and a gradient at a K or V is that of one query head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from tracking.errors import BadInput

SUPPORTED = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True)
class Decoder:
    """The named parts of a supported decoder, PEFT or DDP around it or not."""

    backbone: Any  # a module's own attributes are unknown to type checkers
    lm_head: Any
    layers: Any
    heads: int
    kv_heads: int
    head_dim: int
    width: int

    @classmethod
    def of(cls, model: nn.Module) -> Decoder:
        """The parts of `model`; `BadInput` names an architecture that is not supported."""
        causal = unwrap(model)
        config = getattr(causal, "config", None)
        kind = getattr(config, "model_type", type(causal).__name__)
        if config is None or kind not in SUPPORTED or not hasattr(causal, "lm_head"):
            raise BadInput(f"cannot track a {kind!r} model; supported: {', '.join(SUPPORTED)}")
        heads, width = config.num_attention_heads, config.hidden_size
        return cls(
            backbone=causal.model,
            lm_head=causal.lm_head,
            layers=causal.model.layers,
            heads=heads,
            kv_heads=config.num_key_value_heads,
            head_dim=getattr(config, "head_dim", None) or width // heads,
            width=width,
        )

    @property
    def device(self) -> torch.device:
        """Where the input embeddings lie."""
        return self.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the passes."""
        return self.layers[0].input_layernorm.weight.dtype

    @property
    def embedding(self) -> nn.Embedding:
        return self.backbone.get_input_embeddings()

    @property
    def repeats(self) -> int:
        """Query heads per K and V head."""
        return self.heads // self.kv_heads

    def read_weights(self, layer: int) -> Tensor:
        """Float32 [3 * head, head_dim, width]: what q, k and v of each query head read from the
        normalised stream, the norm's own weight multiplied in."""
        block = self.layers[layer]
        attention, norm = block.self_attn, block.input_layernorm
        reads = []
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            weight = effective_weight(projection) * norm.weight.detach().float()
            weight = weight.view(
                -1, self.head_dim, self.width
            )  # [head or KV head, head_dim, width]
            reads.append(weight.repeat_interleave(self.heads // len(weight), dim=0))
        return torch.cat(reads)

    def unbiased_reads(self, layer: int, normed: Tensor) -> list[Tensor]:
        """Float32 [row, position, (KV) head, head_dim]: q, k and v without their biases.

        `normed` [row, position, width] is the stream over its root mean square.
        """
        attention, norm = self.layers[layer].self_attn, self.layers[layer].input_layernorm
        read = normed * norm.weight.detach().float()
        return [
            nn.functional.linear(read, effective_weight(p)).unflatten(-1, (-1, self.head_dim))
            for p in (attention.q_proj, attention.k_proj, attention.v_proj)
        ]

    def read_biases(self, layer: int) -> Tensor | None:
        """Float32 [3 * head * head_dim]: the biases of q, k and v, or None where there are none."""
        attention = self.layers[layer].self_attn
        biases = [bias_of(p) for p in (attention.q_proj, attention.k_proj, attention.v_proj)]
        if all(bias is None for bias in biases):
            return None
        each = [
            torch.zeros(self.heads, self.head_dim, device=self.device)
            if bias is None
            else bias.detach().float().view(-1, self.head_dim)  # [(KV) head, head_dim]
            for bias in biases
        ]
        return torch.cat([b.repeat_interleave(self.heads // len(b), dim=0) for b in each]).flatten()

    def reads(self, layer: int, streams: Tensor) -> tuple[Tensor, ...]:
        """q, k and v, float32 [row, position, head * head_dim] each, where every read of every head
        has a stream of its own: `streams` [row, 3 * head, position, width]."""
        epsilon = self.layers[layer].input_layernorm.variance_epsilon
        size = streams.norm(dim=-1, keepdim=True).square() / self.width
        reads = torch.einsum("btpd,ted->btpe", streams, self.read_weights(layer))
        reads = (reads * (size + epsilon).rsqrt()).transpose(1, 2).flatten(2)
        bias = self.read_biases(layer)
        return (reads if bias is None else reads + bias).chunk(3, dim=-1)

    def writes(self, layer: int, values: Tensor) -> Tensor:
        """What each head writes into the stream, float32 [row, position, head, width], of `values`
        [row, position, head * head_dim], the input of the output projection."""
        weight = effective_weight(self.layers[layer].self_attn.o_proj)  # [width, head * head_dim]
        each = weight.T.reshape(self.heads, self.head_dim, self.width)
        return torch.einsum("bphe,hed->bphd", values.unflatten(-1, (self.heads, -1)), each)


def unwrap(model: Any) -> Any:
    """The Hugging Face model inside DDP, `torch.compile` and PEFT (its adapters stay in place)."""
    while True:
        if isinstance(model, PeftModel):
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
    if not isinstance(linear, BaseTunerLayer):
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
    inner: Any = linear.get_base_layer() if isinstance(linear, BaseTunerLayer) else linear
    return inner.bias


@dataclass
class LayerTaps:
    """What was seen in one layer of one pass; every tensor is [row, position, ...]."""

    stream: Tensor = field(init=False)  # [.., width] what the heads read, before the norm
    reads: list[GradientEdge] = field(default_factory=list)  # q, k, v: [.., head * head_dim] each
    values: Tensor = field(init=False)  # [.., head * head_dim] the input of o_proj
    mlp_stream: Tensor = field(init=False)  # [.., width] what the MLP reads, before the norm
    mlp_out: Tensor = field(init=False)  # [.., width] what the MLP writes


@dataclass
class Taps:
    """What was seen in the last pass of a tapped model."""

    layers: list[LayerTaps]
    outputs: bool = True  # whether `values` and `mlp_out` are kept
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
    taps = Taps([LayerTaps() for _ in decoder.layers])
    with ExitStack() as stack:
        stack.enter_context(quiet(decoder))
        for layer, block in enumerate(decoder.layers):
            for hook in _layer_hooks(decoder, block, taps, layer):
                stack.callback(hook.remove)
            stack.enter_context(_ungrouped(block.self_attn))
        hook = decoder.backbone.norm.register_forward_pre_hook(_alias(taps, "logits_stream"))
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
def replaced(decoder: Decoder, layer: int, part: str, output: Tensor) -> Iterator[None]:
    """Within it the heads' values or the MLP's output (`part`: `values`, `mlp_out`) of a layer are
    `output`, whatever they read."""
    block = decoder.layers[layer]
    if part == "values":
        hook = block.self_attn.o_proj.register_forward_pre_hook(lambda _module, _args: (output,))
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

    def values(self, layer: int, values: Tensor) -> None:
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
        for layer, block in enumerate(decoder.layers):
            for hook in _edit_hooks(decoder, block, editor, layer):
                stack.callback(hook.remove)
            stack.enter_context(_ungrouped(block.self_attn))

        def logits(_module: nn.Module, args: tuple) -> tuple:
            return (editor.logits(args[0].float()).to(args[0]),)

        stack.callback(decoder.backbone.norm.register_forward_pre_hook(logits).remove)
        yield


def _edit_hooks(decoder: Decoder, block: Any, editor: Editor, layer: int) -> Iterator:
    attention = block.self_attn
    reads: list[Tensor] = []

    def begin(_module: nn.Module, args: tuple) -> None:
        streams = editor.attention(layer, args[0].float())
        reads[:] = [read.to(args[0]) for read in decoder.reads(layer, streams)]

    def read(_module: nn.Module, _args: tuple, _out: Tensor) -> Tensor:
        return reads.pop(0)

    def values(_module: nn.Module, args: tuple) -> None:
        editor.values(layer, args[0].float())

    def mlp(_module: nn.Module, args: tuple) -> tuple:
        return (editor.mlp(layer, args[0].float()).to(args[0]),)

    def mlp_out(_module: nn.Module, _args: tuple, out: Tensor) -> None:
        editor.mlp_out(layer, out.float())

    yield block.input_layernorm.register_forward_pre_hook(begin)
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        yield projection.register_forward_hook(read)
    yield attention.o_proj.register_forward_pre_hook(values)
    yield block.post_attention_layernorm.register_forward_pre_hook(mlp)
    yield block.mlp.register_forward_hook(mlp_out)


def _layer_hooks(decoder: Decoder, block: Any, taps: Taps, layer: int) -> Iterator:
    attention = block.self_attn

    def begin(_module: nn.Module, args: tuple) -> None:
        taps.layers[layer] = LayerTaps()
        taps.layers[layer].stream = args[0]

    def read(_module: nn.Module, _args: tuple, out: Tensor) -> Tensor:
        if out.shape[-1] != decoder.heads * decoder.head_dim:
            grouped = out.unflatten(-1, (-1, decoder.head_dim))  # [row, position, KV head, dim]
            out = grouped.repeat_interleave(decoder.repeats, dim=2).flatten(2)
        if out.requires_grad:  # only where its gradient goes: its values would fill the memory
            taps.layers[layer].reads.append(get_gradient_edge(out))
        return out

    def values(_module: nn.Module, args: tuple) -> None:
        if taps.outputs:
            taps.layers[layer].values = args[0]

    def mlp_out(_module: nn.Module, _args: tuple, out: Tensor) -> None:
        if taps.outputs:
            taps.layers[layer].mlp_out = out

    def mlp_stream(module: nn.Module, args: tuple) -> tuple:
        return _alias(taps.layers[layer], "mlp_stream")(module, args)

    yield block.input_layernorm.register_forward_pre_hook(begin)
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        yield projection.register_forward_hook(read)
    yield attention.o_proj.register_forward_pre_hook(values)
    yield block.post_attention_layernorm.register_forward_pre_hook(mlp_stream)
    yield block.mlp.register_forward_hook(mlp_out)


def _alias(place: object, name: str) -> Callable:
    """A pre-hook that hands on a view of the input, so that its gradient is the branch's alone."""

    def hook(_module: nn.Module, args: tuple) -> tuple:
        view = args[0].view_as(args[0])
        setattr(place, name, view)
        return (view, *args[1:])

    return hook


@contextmanager
def _ungrouped(attention: Any) -> Iterator[None]:
    groups = attention.num_key_value_groups
    attention.num_key_value_groups = 1
    try:
        yield
    finally:
        attention.num_key_value_groups = groups


def embed(decoder: Decoder, token_ids: Tensor) -> Tensor:
    """What `embed` writes: [row, position] -> [row, position, width]."""
    return decoder.embedding(token_ids)


def run(decoder: Decoder, embeddings: Tensor, attention_mask: Tensor) -> Tensor:
    """One pass from embeddings [row, position, width] to the last norm's output, same shape.

    Positions are counted from each row's first real token, so padding on either side is alike.
    """
    padded = not bool(attention_mask.all())  # without padding attention has a faster kernel
    positions = (attention_mask.cumsum(-1) - 1).clamp(min=0) if padded else None
    with torch.autocast(embeddings.device.type, enabled=False):
        out = decoder.backbone(
            inputs_embeds=embeddings,
            attention_mask=attention_mask if padded else None,
            position_ids=positions,
            use_cache=False,
        )
    return out.last_hidden_state
