"""The decoder families that are supported, one description each.

A family fits where every layer is

    stream = stream + o(attention(q(norm(stream)), k(norm(stream)), v(norm(stream))))
    stream = stream + mlp(norm(stream))

with RMS norms y = weight x / rms(x), and the last stream goes through one more norm to the logits.
To add a family, add an entry to `ARCHITECTURES` under its `config.model_type`, naming its modules
where they are called otherwise, and its name to the list in `tests/builders/decoders.py`: every law
of the attribution is then tried on it, patching all edges against the plain model among them.

Gemma is not such a family yet: its norm multiplies by 1 + weight, its embeddings are scaled inside
the model and Gemma 2 and 3 have norms after attention and MLP; `Decoder` has to learn these first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Block:
    """The modules of one layer; their own attributes are unknown to type checkers."""

    attention_norm: Any
    attention: Any
    q: Any
    k: Any
    v: Any
    o: Any
    mlp_norm: Any
    mlp: Any
    down: Any  # the MLP's last matrix

    @property
    def reads(self) -> tuple[Any, Any, Any]:
        """The projections that read the stream: q, k, v."""
        return self.q, self.k, self.v


@dataclass(frozen=True)
class Architecture:
    """What a family calls its modules, each below the one before."""

    backbone: str = "model"
    layers: str = "layers"
    attention_norm: str = "input_layernorm"
    attention: str = "self_attn"
    q: str = "q_proj"
    k: str = "k_proj"
    v: str = "v_proj"
    o: str = "o_proj"
    mlp_norm: str = "post_attention_layernorm"
    mlp: str = "mlp"
    down: str = "down_proj"
    last_norm: str = "norm"
    epsilon: str = "variance_epsilon"  # of a norm

    def block(self, layer: Any) -> Block:
        """The named modules of one of the layers."""
        attention = getattr(layer, self.attention)
        projections = {name: getattr(attention, getattr(self, name)) for name in "qkvo"}
        mlp = getattr(layer, self.mlp)
        return Block(
            attention_norm=getattr(layer, self.attention_norm),
            attention=attention,
            mlp_norm=getattr(layer, self.mlp_norm),
            mlp=mlp,
            down=getattr(mlp, self.down),
            **projections,
        )


ARCHITECTURES = {
    "llama": Architecture(),
    "mistral": Architecture(),
    "qwen2": Architecture(),
    "qwen3": Architecture(),
}
"""By `config.model_type`."""
