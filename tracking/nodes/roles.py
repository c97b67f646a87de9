"""What each head does, told from where it attends on a few prompts.

Two passes with eager attention, the only kind that gives its weights:

1. clean pairs: what the head does on the behaviour that is tracked (`previous_token`,
   `first_token`, `copying`, `digits`, `entropy`, `kurtosis`);
2. random tokens said twice: what it does where only the repetition can guide it (`induction`,
   `duplicate_token`). In the second half every token has exactly one earlier occurrence; in pairs
   of few different tokens even attention would look like either.

A score is a share of attention, 0 to 1, where nothing else is said. It tells where a head looks,
not that the model needs it: membership and effect do. A layer's attention is reduced to scores as
soon as it is there, so no more than one layer's of one batch is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from tracking.errors import BadInput
from tracking.model.decoder import Decoder, embed, run
from tracking.model.passes import check
from tracking.model.rest import trimmed
from tracking.model.taps import attention_patterns, quiet
from tracking.nodes.patterns import (
    Mean,
    copying,
    digits,
    duplicate_token,
    entropy,
    first_token,
    induction,
    kurtosis,
    previous_token,
)
from tracking.nodes.role_words import Roles
from tracking.pairs.prompt_pairs import PromptPairs

FEW_IDS = 20
"""A model whose pairs hold fewer different tokens was trained on little else: ids beyond them
would be noise to it."""

REPEATED_ROWS = 32
REPEATED_LENGTH = 25


def roles(
    model: Any,
    pairs: PromptPairs,
    digit_ids: Tensor | None = None,
    limit: int = 32,
    seed: int = 0,
    batch_size: int = 32,
) -> Roles:
    """The roles of all heads on the first `limit` clean pairs, and on random tokens by `seed`,
    `batch_size` prompts a pass.

    `digit_ids` LongTensor [token] are the ids of digits and operands; without it `digits` is NaN,
    as `copying` is without labels. The model may be wrapped by PEFT; its mode, flags, attention
    implementation and the global random state are left as they were, also after an exception.
    Raises `BadInput` where the model is not supported or the pairs do not fit it.
    """
    if limit < 1:
        raise BadInput(f"limit is {limit}; it must be at least 1 pair")
    decoder, graph = Decoder.of(model), Decoder.of(model).graph
    chosen = trimmed(pairs[:limit]).to(decoder.device)
    check(decoder, chosen, batch_size=1)
    twice = _repeated(_drawn_from(decoder, chosen.clean[chosen.attention_mask.bool()]), seed)
    twice = twice.to(decoder.device)
    with torch.no_grad(), quiet(decoder):
        batches = torch.arange(len(chosen)).split(batch_size)
        on_pairs = _measured(decoder, [_on_pairs(chosen[rows], digit_ids) for rows in batches])
        on_repeated = _measured(decoder, map(_on_repeated, twice.split(batch_size)))
    return Roles(heads=graph.head_names, **on_pairs, **on_repeated)


# Passes

Measure = Callable[[Tensor], dict[str, Mean]]
"""From one layer's patterns, float32 [pair, head, query, key], to scores by name."""

Batch = tuple[Tensor, Tensor, Measure]
"""Tokens and attention mask, LongTensor [pair, position], and what their patterns tell."""


def _on_pairs(pairs: PromptPairs, digit_ids: Tensor | None) -> Batch:
    tokens, real, looks = pairs.clean, pairs.attention_mask.bool(), pairs.supervised
    labels = pairs.labels
    are_digits = None if digit_ids is None else torch.isin(tokens, digit_ids.to(tokens))

    def measure(patterns: Tensor) -> dict[str, Mean]:
        unknown = Mean(patterns.new_zeros(patterns.shape[1]), real.new_zeros((), dtype=torch.long))
        return {
            "previous_token": previous_token(patterns, real),
            "first_token": first_token(patterns, real),
            "copying": unknown
            if labels is None
            else copying(patterns, tokens, real, looks, labels[:, 0]),
            "digits": unknown if are_digits is None else digits(patterns, real, looks, are_digits),
            "entropy": entropy(patterns, real),
            "kurtosis": kurtosis(patterns, real),
        }

    return tokens, pairs.attention_mask, measure


def _on_repeated(tokens: Tensor) -> Batch:
    real = torch.ones_like(tokens, dtype=torch.bool)

    def measure(patterns: Tensor) -> dict[str, Mean]:
        return {
            "induction": induction(patterns, tokens, real),
            "duplicate_token": duplicate_token(patterns, tokens, real),
        }

    return tokens, torch.ones_like(tokens), measure


def _measured(decoder: Decoder, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """Float32 [head] on the CPU, by name, all layers' heads: the scores of all batches."""
    whole: list[dict[str, Mean]] = []
    for batch in batches:
        layers = _by_layer(decoder, *batch)
        whole = [_added(*two) for two in zip(whole, layers, strict=True)] if whole else layers
    names = whole[0]
    return {name: torch.cat([layer[name].value for layer in whole]).cpu() for name in names}


def _by_layer(
    decoder: Decoder, tokens: Tensor, attention_mask: Tensor, measure: Measure
) -> list[dict[str, Mean]]:
    """Each layer's scores, of one batch."""
    layers: list[dict[str, Mean]] = []

    def see(patterns: Tensor) -> None:
        layers.append(measure(patterns.to(tokens.device)))

    with attention_patterns(decoder, see):
        run(decoder, embed(decoder, tokens), attention_mask)
    return layers


def _added(one: dict[str, Mean], other: dict[str, Mean]) -> dict[str, Mean]:
    return {name: mean + other[name] for name, mean in one.items()}


def _drawn_from(decoder: Decoder, tokens: Tensor) -> Tensor:
    """LongTensor [token]: the ids that random tokens are drawn from, given the pairs' tokens."""
    ids = tokens.unique().cpu()
    return ids if len(ids) < FEW_IDS else torch.arange(decoder.embedding.num_embeddings)


def _repeated(ids: Tensor, seed: int) -> Tensor:
    """LongTensor [row, position]: random tokens of `ids`, each once, then the same again.

    All are different, so that what came before a token and what came after is never in doubt.
    """
    generator = torch.Generator().manual_seed(seed)
    ranks = torch.rand(REPEATED_ROWS, len(ids), generator=generator)
    half = ids[ranks.topk(min(REPEATED_LENGTH, len(ids))).indices]
    return torch.cat([half, half], dim=1)
