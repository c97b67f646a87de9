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

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tracking.errors import BadInput
from tracking.model.adapters import bias_of, effective_weight, unwrap
from tracking.model.architecture import SUPPORTED
from tracking.model.graph import Graph


@dataclass(frozen=True)
class Decoder:
    """The named parts of a supported decoder, PEFT or DDP around it or not."""

    backbone: Any  # a module's own attributes are unknown to type checkers
    lm_head: Any
    layers: Any
    n_heads: int
    n_kv_heads: int
    head_dim: int
    width: int

    @classmethod
    def of(cls, model: nn.Module) -> Decoder:
        """The parts of `model`; `BadInput` names an architecture that is not supported."""
        causal = unwrap(model)
        config = getattr(causal, "config", None)
        family = getattr(config, "model_type", type(causal).__name__)
        if config is None or family not in SUPPORTED or not hasattr(causal, "lm_head"):
            raise BadInput(f"cannot track a {family!r} model; supported: {', '.join(SUPPORTED)}")
        heads, width = config.num_attention_heads, config.hidden_size
        return cls(
            backbone=causal.model,
            lm_head=causal.lm_head,
            layers=causal.model.layers,
            n_heads=heads,
            n_kv_heads=config.num_key_value_heads,
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
    def graph(self) -> Graph:
        """The nodes and edges of the decoder."""
        return Graph(len(self.layers), self.n_heads)

    @property
    def repeats(self) -> int:
        """Query heads per K and V head."""
        return self.n_heads // self.n_kv_heads

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
            reads.append(weight.repeat_interleave(self.n_heads // len(weight), dim=0))
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
            torch.zeros(self.n_heads, self.head_dim, device=self.device)
            if bias is None
            else bias.detach().float().view(-1, self.head_dim)  # [(KV) head, head_dim]
            for bias in biases
        ]
        return torch.cat(
            [b.repeat_interleave(self.n_heads // len(b), dim=0) for b in each]
        ).flatten()

    def reads(self, layer: int, streams: Tensor) -> tuple[Tensor, ...]:
        """q, k and v, float32 [row, position, head * head_dim] each, where every read of every head
        has a stream of its own: `streams` [row, 3 * head, position, width]."""
        epsilon = self.layers[layer].input_layernorm.variance_epsilon
        size = streams.norm(dim=-1, keepdim=True).square() / self.width
        reads = torch.einsum("btpd,ted->btpe", streams, self.read_weights(layer))
        reads = (reads * (size + epsilon).rsqrt()).transpose(1, 2).flatten(2)
        bias = self.read_biases(layer)
        return (reads if bias is None else reads + bias).chunk(3, dim=-1)

    def writes(self, layer: int, z: Tensor) -> Tensor:
        """What each head writes into the stream, float32 [row, position, head, width], of `z`
        [row, position, head * head_dim], the input of the output projection."""
        weight = effective_weight(self.layers[layer].self_attn.o_proj)  # [width, head * head_dim]
        each = weight.T.reshape(self.n_heads, self.head_dim, self.width)
        return torch.einsum("bphe,hed->bphd", z.unflatten(-1, (self.n_heads, -1)), each)


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
