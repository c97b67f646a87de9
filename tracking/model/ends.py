"""Both ends of prompt pairs: what the clean and the corrupted pass of a decoder leave.

Attribution, circuits and exact effects all begin with these two passes. `AllEnds` makes them batch
by batch, and where it keeps them, once for everything that a record says of the pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from tracking.model.decoder import Decoder, embed, run
from tracking.model.passes import Batch, Metric, Outputs, check
from tracking.model.past import Past
from tracking.model.rest import Rest, are_all, batches, most, trimmed
from tracking.model.taps import tapped, undisturbed
from tracking.pairs.prompt_pairs import PromptPairs, look
from tracking.ranks import Peers

T = TypeVar("T")

MEMORY_GB = 16.0
"""That an analysis may take, where nothing else is said."""

KEPT_SHARE = 1 / 8
"""Of this memory, for ends that are kept."""


@dataclass(frozen=True)
class KeptLayer:
    """What one layer read and left in a pass, in the model's own precision."""

    stream: Tensor  # [row, position, width], what the heads read, before the norm
    z: Tensor  # [row, position, head * head_dim], the input of o_proj
    mid: Tensor  # [row, position, width], the stream between attention and MLP
    mlp_out: Tensor  # [row, position, width]

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """In the order of the fields."""
        return self.stream, self.z, self.mid, self.mlp_out

    def at(self, positions: Tensor) -> KeptLayer:
        """The same at `positions` [row, look] alone."""
        return KeptLayer(*(at(part, positions) for part in self.parts))

    def rows(self, rows: Tensor) -> KeptLayer:
        """Of the rows at `rows`."""
        return KeptLayer(*(part[rows.to(part.device)] for part in self.parts))


@dataclass(frozen=True)
class Kept:
    """What a pass of a decoder left."""

    decoder: Decoder
    embeddings: Tensor  # [row, position, width]
    layers: list[KeptLayer]
    last_stream: Tensor  # [row, position, width], what the last norm reads
    last: Tensor  # [row, look, width], what `lm_head` reads

    @classmethod
    def of(
        cls,
        decoder: Decoder,
        token_ids: Tensor,
        mask: Tensor,
        positions: Tensor,
        past: Past | None = None,
    ) -> Kept:
        """Of the pass on `token_ids` [row, position] that goes on from a `past`, looked at at
        `positions` [row, look]; `mask` [row, position] is 0 on padding."""
        with torch.no_grad(), tapped(decoder) as taps:
            embeddings = embed(decoder, token_ids).detach()  # a hook may ask for gradients
            last = run(decoder, embeddings, mask, past)
            layers = [
                KeptLayer(tap.stream, tap.z, tap.mlp_stream, tap.mlp_out) for tap in taps.layers
            ]
            return cls(decoder, embeddings, layers, taps.logits_stream, at(last, positions))

    def rows(self, rows: Tensor) -> Kept:
        """Of the rows at `rows`."""
        return Kept(
            self.decoder,
            self.embeddings[rows.to(self.embeddings.device)],
            [layer.rows(rows) for layer in self.layers],
            self.last_stream[rows.to(self.last_stream.device)],
            self.last[rows.to(self.last.device)],
        )

    @cached_property
    def outputs(self) -> Outputs:
        """What the parts gave, in float32."""
        return Outputs(
            self.embeddings.float(),
            [layer.z.float() for layer in self.layers],
            [layer.mlp_out.float() for layer in self.layers],
        )


@dataclass(frozen=True)
class Ends:
    """The clean and the corrupted pass of a batch of pairs."""

    pairs: PromptPairs  # whole, as metrics take them
    rest: Rest  # the positions of them that both passes ran
    clean: Kept
    corrupted: Kept
    clean_logits: Tensor  # float32 [pair, look, vocabulary]
    corrupted_logits: Tensor  # float32 [pair, look, vocabulary]

    @classmethod
    def of(cls, decoder: Decoder, pairs: PromptPairs) -> Ends:
        """By one pass each, and one on what they begin with alike."""
        pairs = pairs.to(decoder.device)
        with undisturbed(decoder):
            rest = Rest.of(decoder, pairs)
            mask, positions = rest.pairs.attention_mask, look(rest.pairs)[0]
            clean, corrupted = (
                Kept.of(decoder, ids, mask, positions, rest.past)
                for ids in (rest.pairs.clean, rest.pairs.corrupted)
            )
            logits = [decoder.logits(end.last) for end in (clean, corrupted)]
        return cls(pairs, rest, clean, corrupted, *logits)

    def rows(self, rows: Tensor) -> Ends:
        """Of the pairs at `rows`; itself where these are all, in order."""
        if are_all(rows, len(self.pairs)):
            return self
        pairs = self.pairs[rows.to(self.pairs.clean.device)]
        looks = look(pairs)[0].shape[1]
        clean, corrupted = (end.rows(rows) for end in (self.clean, self.corrupted))
        places = rows.to(self.clean_logits.device)
        logits = (end[places, :looks] for end in (self.clean_logits, self.corrupted_logits))
        return Ends(pairs, self.rest.rows(rows), clean, corrupted, *logits)

    def batch(self, losses: Sequence[Metric]) -> Batch:
        """The path between the two, and metrics at both ends."""
        clean, corrupted = self.losses(losses)
        embeddings = self.clean.embeddings, self.corrupted.embeddings
        return Batch(self.pairs, self.rest, *embeddings, self.clean_logits, clean, corrupted)

    def losses(self, losses: Sequence[Metric]) -> Tensor:
        """Metrics under the clean and the corrupted prompts: [end, metric, pair]."""
        each = [
            loss(given, self.clean_logits, self.pairs)
            for given in (self.clean_logits, self.corrupted_logits)
            for loss in losses
        ]
        return torch.stack(each).unflatten(0, (2, -1))


@dataclass(frozen=True)
class AllEnds:
    """Both ends of pairs, batch by batch: `ends[i]` are those of the pairs at `rows[i]`. Batches
    are of pairs that differ over like lengths, `batch_size` at most; where they are kept, each is
    run once. Several processes that hold the model may deal them out among themselves."""

    decoder: Decoder
    pairs: PromptPairs
    batch_size: int
    memory_gb: float
    rows: Sequence[Tensor]  # LongTensor [pair] each, places in `pairs`
    peers: Peers | None
    owners: Sequence[int]  # the process whose rank runs a batch
    parts: Mapping[int, tuple[AllEnds, int, Tensor]] = field(default_factory=dict)  # of whose batch
    kept: dict[int, Ends] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        decoder: Decoder,
        pairs: PromptPairs,
        batch_size: int,
        memory_gb: float = 0.0,
        peers: Peers | None = None,
    ) -> AllEnds:
        """Nothing is run yet; what will be is kept where it fits beside an analysis that may take
        `memory_gb` (`kept_gb`). Raises `BadInput` where the pairs do not fit the decoder, or its
        weights are not finite."""
        check(decoder, pairs, batch_size)
        rows = list(batches(decoder, pairs, batch_size))
        owners = [number % (peers.count if peers else 1) for number in range(len(rows))]
        return cls(decoder, pairs, batch_size, memory_gb, rows, peers, owners)

    @cached_property
    def keeps(self) -> bool:
        """Whether there is room for all of it."""
        return kept_gb(self.decoder, self.pairs, self.memory_gb) > 0

    def __getitem__(self, number: int) -> Ends:
        if number in self.kept:
            return self.kept[number]
        if number in self.parts:
            whole, place, within = self.parts[number]
            ends = whole[place].rows(within)
        else:
            ends = Ends.of(self.decoder, trimmed(self.pairs[self.rows[number]]))
        if self.keeps:
            self.kept[number] = ends
        return ends

    def each(self, make: Callable[[int], T]) -> Iterator[tuple[Tensor, T]]:
        """Every batch's rows, with what `make` gives for its number in the process that runs it:
        tensors on the CPU. All processes are given all."""
        if self.peers is None:
            return ((rows, make(number)) for number, rows in enumerate(self.rows))
        return ((self.rows[at], given) for at, given in self.peers.each(self.owners, make))

    def among(self, places: Tensor) -> AllEnds:
        """Those of the pairs at `places`, LongTensor [pair] with no place twice: a copy of what is
        kept, or else passes of their own, which may be few enough to be kept."""
        settings = self.batch_size, self.memory_gb
        if not self.keeps:
            return AllEnds.of(self.decoder, self.pairs[places], *settings, self.peers)
        place_of = torch.full((len(self.pairs),), -1)
        place_of[places] = torch.arange(len(places))
        rows, owners, parts = [], [], {}
        for number, of_batch in enumerate(self.rows):
            within = (place_of[of_batch] >= 0).nonzero()[:, 0]
            if len(within):
                parts[len(rows)] = self, number, within
                rows.append(place_of[of_batch[within]])
                owners.append(self.owners[number])
        return AllEnds(self.decoder, self.pairs[places], *settings, rows, self.peers, owners, parts)

    def losses(self, losses: Sequence[Metric]) -> Tensor:
        """Metrics under all clean and all corrupted prompts, float32 [end, metric, pair] on the
        CPU."""
        out = torch.zeros(2, len(losses), len(self.pairs))
        for rows, of_batch in self.each(lambda number: self[number].losses(losses).cpu()):
            out[:, :, rows] = of_batch
        return out


def kept_gb(decoder: Decoder, pairs: PromptPairs, memory_gb: float) -> float:
    """What both ends of all pairs take in memory; 0 where that is more than may be kept."""
    layers, width = len(decoder.blocks), decoder.width
    number = torch.finfo(decoder.dtype).bits // 8
    heads = decoder.n_heads * decoder.head_dim
    position = number * (layers * (heads + 3 * width) + 2 * width)
    if number < 4:  # what the parts gave is there in float32 too
        position += 4 * (layers * (heads + width) + width)
    runs, before = most(decoder, pairs)
    past = number * layers * 2 * decoder.n_kv_heads * decoder.head_dim
    looks = int(pairs.supervised.sum(-1).max())
    logits = looks * (4 * decoder.lm_head.out_features + number * width)
    each = 2 * (runs * position + logits) + before * past
    gb = len(pairs) * each / 1e9
    return gb if gb <= KEPT_SHARE * memory_gb else 0.0


def at(values: Tensor, positions: Tensor) -> Tensor:
    """[row, look, ...]: values [row, position, ...] at `positions` [row, look]."""
    positions = positions.to(values.device)
    rows = torch.arange(len(positions), device=positions.device)[:, None]
    return values[rows, positions]
