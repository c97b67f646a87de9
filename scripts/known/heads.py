"""What every head does on a task's clean prompts, from attention and weights alone: what the papers
tell classes of heads by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scripts.known.task import HeadClass, Task
from tracking.model.decoder import Decoder, embed, run
from tracking.model.taps import attention_patterns, quiet, tapped

ATTENDS = 0.3  # mean share of attention from which a head is of a class
TOP = 5  # of the vocabulary, as Wang et al. 2022 have it
COPIES = 0.5  # share of pairs with the token that is read among the top, or the bottom


@dataclass(frozen=True)
class Heads:
    """All heads on one task, in the order of `Graph.head_names`."""

    names: tuple[str, ...]
    attention: dict[tuple[str, str], Tensor]  # float32 [head] from a named position to another
    when_corrupted: dict[tuple[str, str], Tensor]  # the same on the corrupted prompts
    copies: dict[
        str, Tensor
    ]  # float32 [head], by the position's name that is read: -1 to 1; 0 where it does not attend
    writes: Tensor  # float32 [2, head], at END to the logit of the right and of the other token

    @classmethod
    def of(cls, decoder: Decoder, task: Task) -> Heads:
        asked = {(one.query, one.key) for one in task.classes}
        asked |= {("END", key) for key in task.places}
        clean, corrupted = task.pairs.clean, task.pairs.corrupted
        attention = _attention(decoder, task, sorted(asked), clean)
        read = {one.key: attention[one.query, one.key] >= ATTENDS
                for one in task.classes if one.copies is not None}  # fmt: skip
        return cls(
            decoder.graph.head_names,
            attention,
            _attention(decoder, task, sorted(asked), corrupted),
            {key: _copies(decoder, task, task.places[key], heads) for key, heads in read.items()},
            _writes(decoder, task),
        )

    def members(self, classes: Sequence[HeadClass]) -> dict[str, Tensor]:
        """BoolTensor [head] by class: who is of it by attention, and by what it copies. A head is
        of one class at most, that to which most of its attention goes."""
        fits = torch.stack([self._fits(one) for one in classes])  # [class, head]
        first = fits == fits.amax(0)
        return {one.name: (fits[at] > 0) & first[at] for at, one in enumerate(classes)}

    def _fits(self, one: HeadClass) -> Tensor:
        """Float32 [head]: attention as the class has it; 0 where a head is not of it."""
        attention = self.attention[one.query, one.key]
        fits = attention >= ATTENDS
        if one.copies is not None:
            copies = self.copies[one.key]
            fits &= one.copies * copies >= COPIES if one.copies else copies.abs() < COPIES
        return attention * fits


def _attention(
    decoder: Decoder, task: Task, asked: list[tuple[str, str]], tokens: Tensor
) -> dict[tuple[str, str], Tensor]:
    """Float32 [head] for each (query, key): mean attention over pairs, in prompts of `tokens`."""
    rows, layers = torch.arange(len(task.pairs)), {of: [] for of in asked}

    def see(patterns: Tensor) -> None:  # [pair, head, query, key]
        for query, key in asked:
            seen = patterns[rows, :, task.places[query], task.places[key]]
            layers[query, key].append(seen.mean(0))

    with torch.no_grad(), quiet(decoder), attention_patterns(decoder, see):
        run(decoder, embed(decoder, tokens), task.pairs.attention_mask)
    return {of: torch.cat(by_layer) for of, by_layer in layers.items()}


def _copies(decoder: Decoder, task: Task, place: Tensor, asked: Tensor) -> Tensor:
    """Float32 [head]: share of pairs in which what the head writes of position `place` [pair] has
    the token there among the `TOP` of the vocabulary, less that with it among the bottom ones; of
    the heads `asked` [head], 0 for others.

    As Wang et al. have it the stream is taken after the first layer: what a head of any layer would
    write of the token itself.
    """
    rows, copies = torch.arange(len(place)), torch.zeros(len(asked))
    tokens = task.pairs.clean[rows, place][:, None]
    with torch.no_grad(), tapped(decoder) as taps:
        run(decoder, embed(decoder, task.pairs.clean), task.pairs.attention_mask)
        stream = taps.layers[1].stream[rows, place][:, None]  # [pair, 1, width]
        for number in asked.nonzero()[:, 0].tolist():
            layer, head = divmod(number, decoder.n_heads)
            values = decoder.unbiased_reads(layer, stream * decoder.norm_rate(layer, stream))[2]
            shared = decoder.n_heads // decoder.n_kv_heads
            z = values.repeat_interleave(shared, dim=2).flatten(2)
            written = decoder.writes(layer, z)[:, 0, head]  # [pair, width]
            logits = decoder.lm_head(written * decoder.last_norm.weight)
            own = logits.gather(-1, tokens)
            above, below = ((side(logits, own)).sum(-1) for side in (torch.gt, torch.lt))
            copies[number] = ((above < TOP).float() - (below < TOP).float()).mean()
    return copies


def _writes(decoder: Decoder, task: Task) -> Tensor:
    """Float32 [2, head]: what the head itself adds at END to the logits of both labels, less what
    it adds to the mean logit; mean over pairs, the last norm's rate as it is."""
    pairs, rows, at = task.pairs, torch.arange(len(task.pairs)), task.places["END"]
    assert pairs.labels is not None
    with torch.no_grad(), tapped(decoder) as taps:
        run(decoder, embed(decoder, pairs.clean), pairs.attention_mask)
        last = taps.logits_stream[rows, at]
        rate = (last.square().mean(-1) + getattr(decoder.last_norm, decoder.epsilon)).rsqrt()
        unembedded = decoder.lm_head.weight - decoder.lm_head.weight.mean(0)
        reads = unembedded[pairs.labels] * decoder.last_norm.weight * rate[:, None, None]
        written = [decoder.writes(layer, seen.z[rows, at][:, None])[:, 0]
                   for layer, seen in enumerate(taps.layers)]  # fmt: skip
        each = [torch.einsum("phd,pld->lh", one, reads) for one in written]
    return torch.cat(each, dim=1) / len(pairs)
