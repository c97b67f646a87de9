"""The nodes and edges of a decoder, and their order in a tensor.

A node writes into the residual stream: `embed`, every head `L5H1`, every MLP `M5`. A node reads the
stream before the layer norm; a head reads it three times, `L5H1.q`, `L5H1.k`, `L5H1.v`, each per
*query* head also where K and V are grouped. `logits` only reads. Score matrices are
[source, target]:

    sources: embed | L0H0 L0H1 ... M0 | L1H0 ... M1 | ...
    targets: L0H0.q L0H1.q ... L0H0.k ... L0H0.v ... M0 | L1H0.q ... M1 | ... | logits

A layer's heads do not see each other; its MLP sees them. So what a target can read is always a
prefix of the sources, and one number per target, `visible`, is the whole wiring.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from tracking.errors import BadInput

READS = ("q", "k", "v")


@dataclass(frozen=True)
class Graph:
    """The wiring of a decoder of `layers` layers with `heads` query heads each."""

    layers: int
    heads: int

    @classmethod
    def of(cls, model: nn.Module) -> Graph:
        """The graph of a supported decoder, wrapped by PEFT or not; the model stays untouched.

        Raises `BadInput` where the architecture is not supported.
        """
        from tracking.model.decoder import Decoder

        decoder = Decoder.of(model)
        return cls(len(decoder.layers), decoder.heads)

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Node names in the order of the rows of a score matrix."""
        names = ["embed"]
        for layer in range(self.layers):
            names += [f"L{layer}H{head}" for head in range(self.heads)] + [f"M{layer}"]
        return tuple(names)

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """Names of what reads the residual stream, in the order of the columns."""
        names = []
        for layer in range(self.layers):
            names += [f"L{layer}H{head}.{read}" for read in READS for head in range(self.heads)]
            names += [f"M{layer}"]
        return (*names, "logits")

    @cached_property
    def head_names(self) -> tuple[str, ...]:
        """All heads, layer by layer: the order of every tensor [..., head]."""
        return tuple(f"L{layer}H{h}" for layer in range(self.layers) for h in range(self.heads))

    @cached_property
    def head_sources(self) -> Tensor:
        """LongTensor [head]: the row of every head."""
        return torch.tensor([i for i, name in enumerate(self.sources) if "H" in name])

    def seen_by_attention(self, layer: int) -> int:
        """How many sources the heads of `layer` can read: the first so many rows."""
        return 1 + layer * (self.heads + 1)

    def seen_by_mlp(self, layer: int) -> int:
        """How many sources the MLP of `layer` can read."""
        return self.seen_by_attention(layer) + self.heads

    def head_rows(self, layer: int) -> slice:
        """The rows of the heads of `layer`."""
        return slice(self.seen_by_attention(layer), self.seen_by_mlp(layer))

    def mlp_row(self, layer: int) -> int:
        """The row of the MLP of `layer`."""
        return self.seen_by_mlp(layer)

    def attention_columns(self, layer: int) -> slice:
        """The columns of the reads of `layer`'s heads: all q, then all k, then all v."""
        start = layer * (3 * self.heads + 1)
        return slice(start, start + 3 * self.heads)

    def mlp_column(self, layer: int) -> int:
        """The column of the MLP of `layer`."""
        return self.attention_columns(layer).stop

    def reads_of(self, row: int) -> list[int]:
        """The columns at which the source of a row reads: q, k and v, or one, or none (`embed`)."""
        name = self.sources[row]
        names = [f"{name}.{read}" for read in READS] if "H" in name else [name]
        return [self.targets.index(name) for name in names if name in self.targets]

    @cached_property
    def visible(self) -> Tensor:
        """LongTensor [target]: how many sources each target can read."""
        counts = []
        for layer in range(self.layers):
            counts += [self.seen_by_attention(layer)] * (3 * self.heads)
            counts += [self.seen_by_mlp(layer)]
        return torch.tensor([*counts, len(self.sources)])

    @cached_property
    def edges(self) -> Tensor:
        """BoolTensor [source, target]: where there is an edge."""
        return torch.arange(len(self.sources))[:, None] < self.visible[None, :]

    def index(self, edge: str) -> tuple[int, int]:
        """Row and column of an edge written `L5H1->L7H2.q`; `BadInput` where there is none."""
        source, arrow, target = edge.partition("->")
        if not arrow or source not in self.sources or target not in self.targets:
            raise BadInput(
                f"no edge {edge!r} in a decoder of {self.layers} layers and {self.heads} heads; "
                "write it like 'L0H1->L1H0.q', 'embed->M0' or 'M1->logits'"
            )
        row, column = self.sources.index(source), self.targets.index(target)
        if not self.edges[row, column]:
            raise BadInput(f"no edge {edge!r}: {target} cannot see {source}")
        return row, column
