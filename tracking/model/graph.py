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
from torch import Tensor

from tracking.errors import BadInput

READS = ("q", "k", "v")


@dataclass(frozen=True)
class Graph:
    """The wiring of a decoder of `n_layers` layers with `n_heads` query heads each."""

    n_layers: int
    n_heads: int

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Node names in the order of the rows of a score matrix."""
        names = ["embed"]
        for layer in range(self.n_layers):
            names += [f"L{layer}H{head}" for head in range(self.n_heads)] + [f"M{layer}"]
        return tuple(names)

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """Names of what reads the residual stream, in the order of the columns."""
        names = []
        for layer in range(self.n_layers):
            names += [f"L{layer}H{head}.{read}" for read in READS for head in range(self.n_heads)]
            names += [f"M{layer}"]
        return (*names, "logits")

    @cached_property
    def head_names(self) -> tuple[str, ...]:
        """All heads, layer by layer: the order of every tensor [..., head]."""
        return tuple(f"L{layer}H{h}" for layer in range(self.n_layers) for h in range(self.n_heads))

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """Heads and MLPs, the sources without `embed`: the order of every tensor [..., node]."""
        return self.sources[1:]

    @cached_property
    def node_heads(self) -> Tensor:
        """LongTensor [head]: the place of every head in `nodes`."""
        return self.head_sources - 1

    @cached_property
    def head_sources(self) -> Tensor:
        """LongTensor [head]: the row of every head."""
        return torch.tensor([i for i, name in enumerate(self.sources) if "H" in name])

    def seen_by_attention(self, layer: int) -> int:
        """How many sources the heads of `layer` can read: the first so many rows."""
        return 1 + layer * (self.n_heads + 1)

    def seen_by_mlp(self, layer: int) -> int:
        """How many sources the MLP of `layer` can read."""
        return self.seen_by_attention(layer) + self.n_heads

    def head_rows(self, layer: int) -> slice:
        """The rows of the heads of `layer`."""
        return slice(self.seen_by_attention(layer), self.seen_by_mlp(layer))

    def mlp_row(self, layer: int) -> int:
        """The row of the MLP of `layer`."""
        return self.seen_by_mlp(layer)

    def attention_columns(self, layer: int) -> slice:
        """The columns of the reads of `layer`'s heads: all q, then all k, then all v."""
        start = layer * (3 * self.n_heads + 1)
        return slice(start, start + 3 * self.n_heads)

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
        for layer in range(self.n_layers):
            counts += [self.seen_by_attention(layer)] * (3 * self.n_heads)
            counts += [self.seen_by_mlp(layer)]
        return torch.tensor([*counts, len(self.sources)])

    @cached_property
    def edge_mask(self) -> Tensor:
        """BoolTensor [source, target]: where there is an edge."""
        return torch.arange(len(self.sources))[:, None] < self.visible[None, :]

    def index(self, edge: str) -> tuple[int, int]:
        """Row and column of an edge written `L5H1->L7H2.q`; `BadInput` where there is none."""
        source, arrow, target = edge.partition("->")
        if target in self.head_names:
            raise BadInput(f"no edge {edge!r}: a head reads three times, {target}.q, .k or .v")
        if not arrow or source not in self.sources or target not in self.targets:
            raise BadInput(
                f"no edge {edge!r} in a decoder of {self.n_layers} layers x {self.n_heads} heads; "
                "write it like 'L0H1->L1H0.q', 'embed->M0' or 'M1->logits'"
            )
        row, column = self.sources.index(source), self.targets.index(target)
        if not self.edge_mask[row, column]:
            raise BadInput(f"no edge {edge!r}: {target} cannot see {source}")
        return row, column
