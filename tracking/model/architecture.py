"""The decoder families that are supported, one description each.

A family fits where every layer is

    stream = stream + o(attention(q(norm(stream)), k(norm(stream)), v(norm(stream))))
    stream = stream + mlp(norm(stream))

with RMS norms y = weight x / rms(x), and the last stream goes through one more norm to the logits;
q, k and v may lie in one matrix, and there may be a norm behind attention and one behind the MLP.
Where there is, an MLP writes what its norm gives, and a head its share of what attention's gives,

    write of a head = weight (o of its z alone) / rms(o of all heads' z),

so that the heads' writes sum to what the stream gets: what a head writes depends on the z of all
heads of its layer, what it reads on the stream alone. In a circuit, heads outside it give their
corrupted z to the norm, as to everything.

To add a family, add an entry to `ARCHITECTURES` under its `config.model_type`, naming its modules
where they are called otherwise, and its name to the list in `tests/builders/decoders.py`: every law
of the attribution is then tried on it, patching all edges against the plain model among them.
Families that were looked at and do not fit stand in `REFUSED`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from torch import Tensor

from tracking.errors import BadInput


@dataclass(frozen=True)
class Rows:
    """A projection that is some rows of a linear layer, as q is of Phi-3's qkv_proj."""

    whole: Any
    rows: slice

    @property
    def weight(self) -> Tensor:
        """[row, in], a view of the whole's own weight, without adapters."""
        return self.whole.weight[self.rows]

    def __call__(self, values: Tensor) -> Tensor:
        return self.whole(values)[..., self.rows]


@dataclass(frozen=True)
class Block:
    """The modules of one layer; their own attributes are unknown to type checkers."""

    attention_norm: Any
    attention: Any
    q: Any  # a module, or `Rows` of one
    k: Any
    v: Any
    o: Any
    attention_behind: Any  # the norm behind o; None where there is none
    mlp_norm: Any
    mlp: Any
    down: Any  # the MLP's last matrix
    mlp_behind: Any  # the norm behind it; None where there is none

    @property
    def mlp_out(self) -> Any:
        """The module that gives what the MLP writes."""
        return self.mlp_behind or self.mlp

    def after_attention(self, stream: Tensor, attended: Tensor) -> Tensor:
        """The stream [.., width] with what o gave, `attended`."""
        return stream + (self.attention_behind(attended) if self.attention_behind else attended)

    def after_mlp(self, stream: Tensor) -> Tensor:
        """The stream [.., width] that the MLP reads, with what it writes."""
        given = self.mlp(self.mlp_norm(stream))
        return stream + (self.mlp_behind(given) if self.mlp_behind else given)

    @property
    def reads(self) -> tuple[Any, Any, Any]:
        """The projections that read the stream: q, k, v."""
        return self.q, self.k, self.v

    @property
    def fused(self) -> Any:
        """The one module that is q, k and v, in this order; None where they are three."""
        return self.q.whole if isinstance(self.q, Rows) else None


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
    qkv: str = ""  # q, k and v in one, where they are
    o: str = "o_proj"
    attention_behind: str = ""  # the norm behind attention, where there is one
    mlp_norm: str = "post_attention_layernorm"
    mlp: str = "mlp"
    down: str = "down_proj"
    mlp_behind: str = ""
    last_norm: str = "norm"
    epsilon: str = "variance_epsilon"  # of a norm
    added: float = 0  # to a norm's weight, by the norm itself

    def block(self, layer: Any) -> Block:
        """The named modules of one of the layers."""
        attention, mlp = getattr(layer, self.attention), getattr(layer, self.mlp)
        o = getattr(attention, self.o)
        if self.qkv:
            q, k, v = _parts(getattr(attention, self.qkv), o.in_features)
        else:
            q, k, v = (getattr(attention, name) for name in (self.q, self.k, self.v))
        return Block(
            attention_norm=getattr(layer, self.attention_norm),
            attention=attention,
            q=q,
            k=k,
            v=v,
            o=o,
            attention_behind=_norm(layer, self.attention_behind),
            mlp_norm=getattr(layer, self.mlp_norm),
            mlp=mlp,
            down=getattr(mlp, self.down),
            mlp_behind=_norm(layer, self.mlp_behind),
        )


def _norm(layer: Any, name: str) -> Any:
    return getattr(layer, name) if name else None


def _parts(whole: Any, of_queries: int) -> list[Rows]:
    """q, k and v in a module of them all, by the number of q's rows."""
    middle = (of_queries + whole.out_features) // 2
    borders = (0, of_queries, middle, whole.out_features)
    return [Rows(whole, slice(*ends)) for ends in pairwise(borders)]


_GEMMA = Architecture(epsilon="eps", added=1)
_GEMMA_NORMS = replace(
    _GEMMA,
    attention_behind="post_attention_layernorm",
    mlp_norm="pre_feedforward_layernorm",
    mlp_behind="post_feedforward_layernorm",
)

ARCHITECTURES = {
    "gemma": _GEMMA,
    "gemma2": _GEMMA_NORMS,
    "gemma3_text": _GEMMA_NORMS,
    "llama": Architecture(),
    "mistral": Architecture(),
    "phi3": Architecture(qkv="qkv_proj"),  # Phi-4 too
    "qwen2": Architecture(),
    "qwen3": Architecture(),
}
"""By `config.model_type`."""


_ALL_HEADS = "one norm runs over the queries of all heads, so that no head reads the stream alone"

REFUSED = {
    "gemma3": "it reads images too; its text model alone, gemma3_text, is supported",
    "olmo": "its norms take the mean away too",
    "olmo2": _ALL_HEADS,
    "olmo3": _ALL_HEADS,
    "phi": "its attention and MLP read the same stream side by side",
}
"""By `config.model_type`: why a family does not fit."""


def architecture_of(family: str, where: object = "") -> Architecture:
    """The description of a family, `config.model_type`.

    Raises `BadInput` where it is not supported, with the reason where that is known; `where` says
    which model it is.
    """
    if family in ARCHITECTURES:
        return ARCHITECTURES[family]
    named = f"a {family!r} model ({where})" if where else f"a {family!r} model"
    reason = f": {REFUSED[family]}" if family in REFUSED else ""
    raise BadInput(f"cannot track {named}{reason}; supported: {', '.join(ARCHITECTURES)}")
