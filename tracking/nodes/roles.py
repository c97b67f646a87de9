"""What each head does, told from where it attends on a few prompts.

Two passes with eager attention, the only kind that gives its weights:

1. clean pairs: what the head does on the behaviour that is tracked (`previous_token`,
   `first_token`, `copying`, `digits`, `entropy`, `kurtosis`);
2. random tokens said twice: what it does where only the repetition can guide it (`induction`,
   `duplicate_token`). In the second half every token has exactly one earlier occurrence; in pairs
   of few different tokens even attention would look like either.

A score is a share of attention, 0 to 1, where nothing else is said. It tells where a head looks,
not that the model needs it: membership and effect do. A layer's attention is reduced to scores as
soon as it is there, so no more than one layer's is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from tracking.errors import BadInput
from tracking.model.adapters import unwrap
from tracking.model.decoder import Decoder, embed, run
from tracking.model.passes import check, trimmed
from tracking.model.taps import quiet
from tracking.nodes.patterns import (
    copying,
    digits,
    duplicate_token,
    entropy,
    first_token,
    induction,
    kurtosis,
    previous_token,
)
from tracking.pairs.prompt_pairs import PromptPairs

THRESHOLDS = {
    "induction": 0.4,
    "copying": 0.2,
    "previous_token": 0.4,
    "duplicate_token": 0.4,
    "first_token": 0.6,
    "digits": 0.8,
}
"""From which score on a head has a role. They are ours, set by what even attention can reach: it
gives the first token and the digits of a short prompt much, one certain token little. `entropy` and
`kurtosis` say how attention is spread, not on what, so they name no role."""

FEW_IDS = 20
"""A model whose pairs hold fewer different tokens was trained on little else: ids beyond them
would be noise to it."""

REPEATED_ROWS = 32
REPEATED_LENGTH = 25


SCORES = (
    "induction", "copying", "previous_token", "duplicate_token", "first_token", "digits",
    "entropy", "kurtosis",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Roles:
    """What every head does; scores float32 [head] in the order of `heads`, as defined by the
    functions of the same names. NaN where the pairs cannot tell."""

    heads: tuple[str, ...]  # as in `Graph.head_names`
    induction: Tensor
    copying: Tensor
    previous_token: Tensor
    duplicate_token: Tensor
    first_token: Tensor
    digits: Tensor
    entropy: Tensor
    kurtosis: Tensor

    @classmethod
    def of(cls, heads: tuple[str, ...], scores: Tensor) -> Roles:
        """From scores [role, head] in the order of `SCORES`."""
        return cls(heads, **dict(zip(SCORES, scores, strict=True)))

    @property
    def scores(self) -> dict[str, Tensor]:
        """All scores by name."""
        return {name: value for name, value in vars(self).items() if name != "heads"}

    @property
    def main(self) -> list[str]:
        """One word a head: the role whose score is furthest from its threshold towards 1, the
        first in `THRESHOLDS` of equals; '-' where no score reaches its threshold."""
        return [self._main(head) for head in range(len(self.heads))]

    def _main(self, head: int) -> str:
        found = {name: float(self.scores[name][head]) for name in THRESHOLDS}
        reached = {name: score for name, score in found.items() if score >= THRESHOLDS[name]}
        if not reached:
            return "-"
        name = max(reached, key=lambda n: (reached[n] - THRESHOLDS[n]) / (1 - THRESHOLDS[n]))
        return name.replace("_", " ")

    def frame(self) -> pd.DataFrame:
        """One row a head: `head`, every score, `main`."""
        columns = {name: score.numpy() for name, score in self.scores.items()}
        return pd.DataFrame({"head": list(self.heads), **columns, "main": self.main})


def roles(
    model: Any,
    pairs: PromptPairs,
    digit_ids: Tensor | None = None,
    limit: int = 32,
    seed: int = 0,
) -> Roles:
    """The roles of all heads on the first `limit` clean pairs, and on random tokens by `seed`.

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
    with torch.no_grad(), quiet(decoder), _eager(unwrap(model)):
        on_pairs = _measured(
            decoder, chosen.clean, chosen.attention_mask, _on_pairs(chosen, digit_ids)
        )
        everywhere = torch.ones_like(twice)
        on_repeated = _measured(decoder, twice, everywhere, _on_repeated(twice))
    return Roles(heads=graph.head_names, **on_pairs, **on_repeated)


# Passes

Measure = Callable[[Tensor], dict[str, Tensor]]
"""From one layer's patterns, float32 [pair, head, query, key], to scores [head] by name."""


def _on_pairs(pairs: PromptPairs, digit_ids: Tensor | None) -> Measure:
    tokens, real, looks = pairs.clean, pairs.attention_mask.bool(), pairs.supervised
    labels = pairs.labels
    found = None if digit_ids is None else torch.isin(tokens, digit_ids.to(tokens))

    def measure(patterns: Tensor) -> dict[str, Tensor]:
        unknown = patterns.new_full((patterns.shape[1],), torch.nan)
        return {
            "previous_token": previous_token(patterns, real),
            "first_token": first_token(patterns, real),
            "copying": unknown
            if labels is None
            else copying(patterns, tokens, real, looks, labels[:, 0]),
            "digits": unknown if found is None else digits(patterns, real, looks, found),
            "entropy": entropy(patterns, real),
            "kurtosis": kurtosis(patterns, real),
        }

    return measure


def _on_repeated(tokens: Tensor) -> Measure:
    real = torch.ones_like(tokens, dtype=torch.bool)

    def measure(patterns: Tensor) -> dict[str, Tensor]:
        return {
            "induction": induction(patterns, tokens, real),
            "duplicate_token": duplicate_token(patterns, tokens, real),
        }

    return measure


def _measured(
    decoder: Decoder, tokens: Tensor, attention_mask: Tensor, measure: Measure
) -> dict[str, Tensor]:
    """Float32 [head] on the CPU, by name, all layers' heads: the scores of one pass."""
    layers: list[dict[str, Tensor]] = []

    def attended(_module: Any, _args: tuple, out: tuple[Tensor, Tensor]) -> None:
        layers.append(measure(out[1].float()))

    with ExitStack() as stack:
        for block in decoder.layers:
            stack.callback(block.self_attn.register_forward_hook(attended).remove)
        run(decoder, embed(decoder, tokens), attention_mask)
    return {name: torch.cat([layer[name] for layer in layers]).cpu() for name in layers[0]}


@contextmanager
def _eager(causal: Any) -> Iterator[None]:
    """Within it attention is computed so that its weights are seen."""
    before = causal.config._attn_implementation
    try:
        causal.set_attn_implementation("eager")
        yield
    finally:
        causal.set_attn_implementation(before)


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
