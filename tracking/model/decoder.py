"""A Hugging Face decoder by the parts that an analysis reads: all that the rest knows of modules.

Which modules they are says `tracking.model.architecture`; anything else is refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache

from tracking.errors import BadInput
from tracking.model.adapters import bias_of, effective_weight, unwrap
from tracking.model.architecture import Block, architecture_of
from tracking.model.graph import Graph
from tracking.model.past import Past


@dataclass(frozen=True)
class Decoder:
    """The named parts of a supported decoder, PEFT or DDP around it or not."""

    causal: Any  # the Hugging Face model; a module's own attributes are unknown to type checkers
    backbone: Any
    last_norm: Any
    layers: Any  # the backbone's list of them
    blocks: tuple[Block, ...]
    n_heads: int
    n_kv_heads: int
    head_dim: int
    width: int
    epsilon: str
    added: float  # to a norm's weight
    cap: float | None  # of the logits: they are cap * tanh(logits / cap)

    @classmethod
    def of(cls, model: nn.Module) -> Decoder:
        """The parts of `model`; `BadInput` names an architecture that is not supported."""
        causal = unwrap(model)
        config = getattr(causal, "config", None)
        family = getattr(config, "model_type", type(causal).__name__)
        architecture = architecture_of(family)
        if config is None or not hasattr(causal, "lm_head"):
            raise BadInput(f"cannot track a {type(causal).__name__}: it has no lm_head")
        backbone = getattr(causal, architecture.backbone)
        layers = getattr(backbone, architecture.layers)
        blocks = tuple(map(architecture.block, layers))
        if any(block.attention_behind and bias_of(block.o) is not None for block in blocks):
            raise BadInput(
                f"cannot track this {family!r} model: the norm behind attention takes the bias of "
                "o_proj too, which is no head's"
            )
        n_heads, width = config.num_attention_heads, config.hidden_size
        return cls(
            causal=causal,
            backbone=backbone,
            last_norm=getattr(backbone, architecture.last_norm),
            layers=layers,
            blocks=blocks,
            n_heads=n_heads,
            n_kv_heads=config.num_key_value_heads,
            head_dim=getattr(config, "head_dim", None) or width // n_heads,
            width=width,
            epsilon=architecture.epsilon,
            added=architecture.added,
            cap=getattr(config, "final_logit_softcapping", None),
        )

    @property
    def graph(self) -> Graph:
        """The nodes and edges of the decoder."""
        return Graph(len(self.blocks), self.n_heads)

    @property
    def lm_head(self) -> Any:
        """What turns the last stream into logits."""
        return self.causal.lm_head

    @property
    def device(self) -> torch.device:
        """Where the input embeddings lie, and what is kept of no single layer: of a model whose
        layers are on several devices (`device_map`), the one that passes begin and end on."""
        return self.embedding.weight.device

    def device_of(self, layer: int) -> torch.device:
        """Where a layer lies; what is computed of it is computed there."""
        return self.blocks[layer].attention_norm.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights and the passes."""
        return self.blocks[0].attention_norm.weight.dtype

    @property
    def precision(self) -> str:
        """To what the passes round: their dtype's name, or `tf32` where a GPU multiplies float32 by
        its tensor cores, to 10 bits (`tf32: true` of a recipe)."""
        # not `allow_tf32`: torch raises where transformers has set what that reads
        coarse = torch.backends.cuda.matmul.fp32_precision == "tf32"
        if self.dtype == torch.float32 and self.device.type == "cuda" and coarse:
            return "tf32"
        return str(self.dtype).removeprefix("torch.")

    def turned_by_length(self, positions: int) -> bool:
        """Whether rotary embeddings of passes of so many positions depend on that number, and not
        on the positions alone."""
        kinds = self.backbone.rotary_emb.rope_type  # of all layers, or by their kind
        each = kinds.values() if isinstance(kinds, dict) else [kinds]
        if not any(kind == "longrope" or "dynamic" in kind for kind in each):
            return False
        config = self.causal.config
        original = config.rope_parameters.get("original_max_position_embeddings")
        return positions >= (original or config.max_position_embeddings)

    @property
    def mlp_width(self) -> int:
        """Hidden units of an MLP."""
        return self.blocks[0].down.in_features

    @property
    def embedding(self) -> nn.Embedding:
        return self.backbone.get_input_embeddings()

    def norm_rate(self, layer: int, stream: Tensor) -> Tensor:
        """Float32 [row, position, 1]: what the layer's attention norm multiplies a stream [row,
        position, width] by, (mean(x^2) + eps)^-1/2."""
        return self._rate(self.blocks[layer].attention_norm, stream)

    def norm_weight(self, norm: Any) -> Tensor:
        """Float32 [width]: what a norm multiplies by beside its rate."""
        return norm.weight.detach().float() + self.added

    def normed(self, norm: Any, values: Tensor) -> Tensor:
        """Float32 [.., width]: what a norm of the decoder gives of `values` of this shape."""
        return values * self._rate(norm, values) * self.norm_weight(norm)

    def _rate(self, norm: Any, values: Tensor) -> Tensor:
        size = torch.linalg.vector_norm(values, dim=-1, keepdim=True).square() / self.width
        return (size + getattr(norm, self.epsilon)).rsqrt()

    def projection(self, layer: int, name: str) -> Tensor:
        """Float32 [out, in]: the weight of `q`, `k`, `v` or `o`, active LoRA adapters added."""
        return effective_weight(getattr(self.blocks[layer], name))

    def read_weights(self, layer: int) -> Tensor:
        """Float32 [3 * head, head_dim, width]: what q, k and v of each query head read from the
        normalised stream, the norm's own weight multiplied in."""
        block = self.blocks[layer]
        reads = []
        for projection in block.reads:
            weight = effective_weight(projection) * self.norm_weight(block.attention_norm)
            weight = weight.view(
                -1, self.head_dim, self.width
            )  # [head or KV head, head_dim, width]
            reads.append(weight.repeat_interleave(self.n_heads // len(weight), dim=0))
        return torch.cat(reads)

    def unbiased_reads(self, layer: int, normed: Tensor) -> list[Tensor]:
        """Float32 [row, position, (KV) head, head_dim]: q, k and v without their biases.

        `normed` [row, position, width] is the stream over its root mean square.
        """
        block = self.blocks[layer]
        read = normed * self.norm_weight(block.attention_norm)
        return [
            nn.functional.linear(read, effective_weight(p)).unflatten(-1, (-1, self.head_dim))
            for p in block.reads
        ]

    def read_biases(self, layer: int) -> Tensor | None:
        """Float32 [3 * head * head_dim]: the biases of q, k and v, or None where there are none."""
        biases = [bias_of(p) for p in self.blocks[layer].reads]
        if all(bias is None for bias in biases):
            return None
        each = [
            torch.zeros(self.n_heads, self.head_dim, device=self.device_of(layer))
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
        reads = torch.einsum("btpd,ted->btpe", streams, self.read_weights(layer))
        reads = (reads * self.norm_rate(layer, streams)).transpose(1, 2).flatten(2)
        bias = self.read_biases(layer)
        return (reads if bias is None else reads + bias).chunk(3, dim=-1)

    def writes(self, layer: int, z: Tensor) -> Tensor:
        """What each head writes into the stream, float32 [row, position, head, width], of `z`
        [row, position, head * head_dim], the input of the output projection."""
        weight = self.projection(layer, "o")  # [width, head * head_dim]
        each = weight.T.reshape(self.n_heads, self.head_dim, self.width)
        writes = torch.einsum("bphe,hed->bphd", z.unflatten(-1, (self.n_heads, -1)), each)
        behind = self.blocks[layer].attention_behind
        if behind is None:
            return writes
        rate = self._rate(behind, writes.sum(2, keepdim=True))
        return writes * (rate * self.norm_weight(behind))

    def writes_changed(self, layer: int, z: Tensor, before: Tensor) -> Tensor:
        """What each head writes with `z` less what it writes with `before`; shapes of `writes`."""
        if self.blocks[layer].attention_behind is None:
            return self.writes(layer, z - before)
        return self.writes(layer, z) - self.writes(layer, before)

    def logits(self, stream: Tensor) -> Tensor:
        """Float32 [.., vocabulary], of the last norm's output [.., width]; on its device."""
        given = self.lm_head(stream).float().to(stream.device)
        return given if self.cap is None else self.cap * (given / self.cap).tanh()


def embed(decoder: Decoder, token_ids: Tensor) -> Tensor:
    """What `embed` writes: [row, position] -> [row, position, width]."""
    return decoder.embedding(token_ids)


def run(
    decoder: Decoder, embeddings: Tensor, attention_mask: Tensor, past: Past | None = None
) -> Tensor:
    """One pass from embeddings [row, position, width] to the last norm's output, same shape, going
    on from a `past` where there is one.

    Positions are counted from each row's first real token, so padding on either side is alike.
    What comes out is on the decoder's device, wherever `embeddings` are.
    """
    if past is None:
        return _pass(decoder, embeddings, attention_mask, None)
    return _pass(decoder, embeddings, past.mask_with(attention_mask), past.cache())


def past_of(decoder: Decoder, token_ids: Tensor, attention_mask: Tensor) -> Past:
    """What passes go on from that begin with `token_ids` [row, position]."""
    cache = DynamicCache()
    with torch.no_grad():
        _pass(decoder, embed(decoder, token_ids), attention_mask, cache)
    return Past(cache.layers, attention_mask, decoder.n_heads)


def _pass(decoder: Decoder, embeddings: Tensor, mask: Tensor, cache: Cache | None) -> Tensor:
    """A pass from embeddings [row, position, width] to the last norm's output; `mask` [row,
    position] is that of all positions, those of the `cache` first."""
    padded = not bool(mask.all())  # without padding attention has a faster kernel
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -embeddings.shape[1] :] if padded else None
    with torch.autocast(embeddings.device.type, enabled=False):
        out = decoder.backbone(
            inputs_embeds=embeddings.to(decoder.device),
            attention_mask=mask if padded else None,
            position_ids=positions,
            past_key_values=cache,
            use_cache=False,
        )
    return out.last_hidden_state.to(decoder.device)
