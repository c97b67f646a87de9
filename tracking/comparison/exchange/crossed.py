"""Patching between two models of one shape on the same tokens: what one node, or a part, carries of
the difference between them.

A figure of a run is a logit difference, summed over places (`Looks`). With the base's and the
trained model's own figure, for a node or a part of either

    lost   = trained - trained with the base's part
    gained = base with the trained one's part - base

both against behaviour = trained - base. What is exchanged is what a part *writes* into the stream
(a head's z through its own columns of the output projection; an MLP's output), since the two
differ in the output projection too; a norm behind attention is that of the model that reads, and
the other's where all heads of a layer are exchanged. A part then writes what it wrote in its own
model, whatever it would read here: a node whose weights are as before, and which only passes on
what came in, has an effect as well. Where the weights changed is asked of the weights:
`tracking.interventions.graft`.

Embeddings, nodes and unembedding (the last norm and what makes logits of the stream) are all that
writes or reads: exchanged together they give the other model's figure, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from tracking.errors import BadInput
from tracking.interventions.graft import check_alike
from tracking.model.decoder import Decoder, embed, run
from tracking.model.ends import Kept
from tracking.model.graph import Graph
from tracking.model.taps import undisturbed
from tracking.pairs.prompt_pairs import PromptPairs, look
from tracking.patching.partial import exchanged, side_by_side, streams_with

AT_ONCE = 4
"""Batches of rows, each with another node, in one pass."""

Changes = Callable[[Kept, Kept, "Looks"], Tensor]
"""Float32 [row, part] on the CPU: by how much the figure of a run changes with another's parts."""


@dataclass(frozen=True)
class Looks:
    """Token sequences, and where in them which two tokens are held against each other."""

    token_ids: Tensor  # LongTensor [row, position]
    mask: Tensor  # LongTensor [row, position], 0 on padding, on either side
    positions: Tensor  # LongTensor [row, look]: the token after each is asked for
    weights: Tensor  # float32 [row, look], 0 where a row has fewer looks
    tokens: Tensor  # LongTensor [row, look, 2]: the logit of the first less that of the second

    def __len__(self) -> int:
        return len(self.token_ids)

    @classmethod
    def of_pairs(cls, pairs: PromptPairs, clean: bool) -> Looks:
        """The clean or the corrupted prompts; the right token of each pair against the other
        side's, as the metric `neg_logit_diff` has them. `BadInput` without labels."""
        if pairs.labels is None:
            raise BadInput("pairs have no labels: a logit difference needs the right tokens")
        positions, weights = look(pairs)
        tokens = pairs.labels[:, None].expand(-1, positions.shape[1], -1)
        ids = pairs.clean if clean else pairs.corrupted
        return cls(ids, pairs.attention_mask, positions, weights.float(), tokens)

    def rows(self, rows: Tensor) -> Looks:
        """Those at `rows`, LongTensor [row], without columns that are padding in all of them or lie
        behind what is looked at."""
        picked = [getattr(self, field.name)[rows] for field in fields(self)]
        ids, mask, positions, weights, tokens = picked
        first = int(mask.any(0).nonzero()[0])
        kept = slice(first, int(positions[weights != 0].max()) + 1)
        positions = (positions - first).clamp(0, kept.stop - first - 1)
        return Looks(ids[:, kept], mask[:, kept], positions, weights, tokens)

    def batches(self, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, Looks]]:
        """LongTensor [row] on the CPU and the looks of these rows on `device`, rows of like length
        together."""
        for rows in self.mask.sum(-1).argsort(stable=True).cpu().split(batch_size):
            batch = self.rows(rows)
            yield rows, Looks(*(getattr(batch, field.name).to(device) for field in fields(batch)))

    def figure(self, decoder: Decoder, last: Tensor) -> Tensor:
        """Float32 [row]: the weighted sum of the logit differences, of what `lm_head` reads, [row,
        look, width]."""
        first, second = decoder.logits(last).gather(2, self.tokens).unbind(2)
        return ((first - second) * self.weights).sum(1)


@dataclass(frozen=True)
class Part:
    """What is exchanged together."""

    name: str
    nodes: Tensor  # BoolTensor [node], in the order of `Graph.nodes`
    embeddings: bool = False
    unembedding: bool = False  # the last norm, and what makes logits of the stream


@dataclass(frozen=True)
class Crossed:
    """Figures of two models and what exchanges make of them, float32 on the CPU."""

    base: Tensor  # [row]
    trained: Tensor  # [row]
    lost: Tensor  # [row, part]: of the trained model's figure, with the base's part
    gained: Tensor  # [row, part]: by the base's figure, with the trained one's part

    @property
    def behaviour(self) -> Tensor:
        """[row]: the trained model's figure less the base's."""
        return self.trained - self.base

    def minus(self, other: Crossed) -> Crossed:
        """The same of a figure that is the difference of two."""
        return Crossed(
            *(getattr(self, one.name) - getattr(other, one.name) for one in fields(self))
        )


def whole(graph: Graph) -> list[Part]:
    """All heads (with what their output projections add besides), all MLPs, both, the embeddings,
    the unembedding; and everything, which gives the other model's figure."""
    heads = torch.zeros(len(graph.nodes), dtype=torch.bool)
    heads[graph.node_heads] = True
    none, every = torch.zeros_like(heads), torch.ones_like(heads)
    return [
        Part("attention", heads),
        Part("MLPs", ~heads),
        Part("attention + MLPs", every),
        Part("embeddings", none, embeddings=True),
        Part("unembedding", none, unembedding=True),
        Part("everything", every, embeddings=True, unembedding=True),
    ]


def layer_heads(graph: Graph) -> list[Part]:
    """All heads of each layer."""
    places = torch.arange(len(graph.nodes))
    by_layer = places.view(graph.n_layers, -1)[:, :-1]  # [layer, head]
    return [
        Part(f"heads of layer {layer}", torch.isin(places, heads))
        for layer, heads in enumerate(by_layer)
    ]


def crossed_nodes(
    base: Decoder, trained: Decoder, looks: Looks, nodes: Tensor, batch_size: int = 8
) -> Crossed:
    """Of every one of `nodes`, BoolTensor [node], alone; their order is that of `Graph.nodes`.

    A pass takes `AT_ONCE` x `batch_size` rows, nodes of one layer side by side, and begins at that
    layer. `BadInput` for models of different shape.
    """
    column = nodes.cumsum(0) - 1

    def changes(here: Kept, other: Kept, batch: Looks) -> Tensor:
        out = torch.zeros(len(batch), int(nodes.sum()))
        count = max(AT_ONCE * batch_size // len(batch), 1)
        for chosen in side_by_side(here.decoder.graph, nodes, count):
            streams = streams_with(here, other, chosen, batch.mask, batch.positions)
            figures = [batch.figure(here.decoder, one) for one in streams]
            out[:, column[chosen.places]] = torch.stack(figures, 1).cpu()
        return out - _own(here, batch)

    return both_ways(base, trained, looks, changes, batch_size)


def crossed_parts(
    base: Decoder, trained: Decoder, looks: Looks, parts: Sequence[Part], batch_size: int = 8
) -> Crossed:
    """Of every part alone, all that is in it at once, by whole passes. `BadInput` as above."""

    def changes(here: Kept, other: Kept, batch: Looks) -> Tensor:
        figures = [_with_part(here, other, part, batch) for part in parts]
        return torch.stack(figures, 1).cpu() - _own(here, batch)

    return both_ways(base, trained, looks, changes, batch_size)


def both_ways(
    base: Decoder, trained: Decoder, looks: Looks, changes: Changes, batch_size: int
) -> Crossed:
    """What parts of the one model change in the other, each way, by `changes` in batches of looks.

    Raises `BadInput` for models of different shape.
    """
    check_alike(base, trained)
    rows, figures = [], []
    with undisturbed(base), undisturbed(trained):
        for places, batch in looks.batches(batch_size, base.device):
            ours, theirs = (
                Kept.of(decoder, batch.token_ids, batch.mask, batch.positions)
                for decoder in (base, trained)
            )
            low, high = (_own(one, batch)[:, 0] for one in (ours, theirs))
            rows.append(places)
            figures.append((low, high, -changes(theirs, ours, batch), changes(ours, theirs, batch)))
    order = torch.cat(rows).argsort()
    return Crossed(*(torch.cat(one)[order] for one in zip(*figures, strict=True)))


def _own(here: Kept, batch: Looks) -> Tensor:
    """[row, 1] on the CPU: the figure of a run as it was."""
    return batch.figure(here.decoder, here.last).cpu()[:, None]


def _with_part(here: Kept, other: Kept, part: Part, batch: Looks) -> Tensor:
    """[row]: the figure of the run `here` with a part of the other's."""
    decoder, donor = here.decoder, other.decoder
    stream = embed(donor if part.embeddings else decoder, batch.token_ids)
    nodes = part.nodes.view(len(decoder.blocks), -1)
    with exchanged(decoder, nodes, other), _normed_by(decoder, donor, part.unembedding):
        last = run(decoder, stream, batch.mask)
    rows = torch.arange(len(batch), device=last.device)[:, None]
    return batch.figure(donor if part.unembedding else decoder, last[rows, batch.positions])


@contextmanager
def _normed_by(decoder: Decoder, donor: Decoder, instead: bool) -> Iterator[None]:
    """Within it the last norm is the donor's, where `instead`."""

    def norm(_module: object, args: tuple, out: Tensor) -> Tensor:
        return donor.last_norm(args[0]) if instead else out

    hook = decoder.last_norm.register_forward_hook(norm)
    try:
        yield
    finally:
        hook.remove()
