"""What each head does, told from where it attends on a few prompts.

Two passes with eager attention, the only kind that gives its weights:

1. clean probes: what the head does on the behaviour that is tracked (`previous_token`,
   `first_token`, `copying`, `digits`, `entropy`, `kurtosis`);
2. random tokens said twice: what it does where only the repetition can guide it (`induction`,
   `duplicate_token`). In the second half every token has exactly one earlier occurrence; in probes
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

from tracking import hooks
from tracking.errors import BadInput
from tracking.graph import Graph
from tracking.hooks import Decoder
from tracking.passes import check, trimmed
from tracking.probes import ProbeSet

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
"""A model whose probes hold fewer different tokens was trained on little else: ids beyond them
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
    functions of the same names. NaN where the probes cannot tell."""

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
    probes: ProbeSet,
    digit_ids: Tensor | None = None,
    limit: int = 32,
    seed: int = 0,
) -> Roles:
    """The roles of all heads on the first `limit` clean probes, and on random tokens by `seed`.

    `digit_ids` LongTensor [token] are the ids of digits and operands; without it `digits` is NaN,
    as `copying` is without labels. The model may be wrapped by PEFT; its mode, flags, attention
    implementation and the global random state are left as they were, also after an exception.
    Raises `BadInput` where the model is not supported or the probes do not fit it.
    """
    if limit < 1:
        raise BadInput(f"limit is {limit}; it must be at least 1 probe")
    decoder, graph = Decoder.of(model), Graph.of(model)
    chosen = trimmed(probes[:limit]).to(decoder.device)
    check(decoder, chosen, batch_size=1)
    twice = _repeated(_drawn_from(decoder, chosen.clean[chosen.attention_mask.bool()]), seed)
    twice = twice.to(decoder.device)
    with torch.no_grad(), hooks.quiet(decoder), _eager(hooks.unwrap(model)):
        on_probes = _measured(
            decoder, chosen.clean, chosen.attention_mask, _on_probes(chosen, digit_ids)
        )
        everywhere = torch.ones_like(twice)
        on_repeated = _measured(decoder, twice, everywhere, _on_repeated(twice))
    return Roles(heads=graph.head_names, **on_probes, **on_repeated)


# Scores of attention patterns
#
# `patterns` [probe, head, query, key]: attention weights, of one layer's heads or of all;
# `tokens` LongTensor, `real` BoolTensor (false on padding), both [probe, position].


def induction(patterns: Tensor, tokens: Tensor, real: Tensor) -> Tensor:
    """Float32 [head]: attention from a token to the position after its last occurrence, mean over
    the tokens that occurred before. Meant for repeated random tokens.

    Where a token stands twice in a row, the position after the first is the token's own: left out.
    Olsson et al. 2022, arXiv 2209.11895.
    """
    positions = torch.arange(tokens.shape[1], device=tokens.device)
    last = torch.where(_earlier_same(tokens, real), positions, -1).amax(-1)  # [probe, query]
    follows = (last >= 0) & (last + 1 < positions)
    return _attended(patterns, positions == last[..., None] + 1, follows)


def duplicate_token(patterns: Tensor, tokens: Tensor, real: Tensor) -> Tensor:
    """Float32 [head]: attention from a token to all its earlier occurrences, mean over the tokens
    that have one. Wang et al. 2022, arXiv 2211.00593."""
    same = _earlier_same(tokens, real)
    return _attended(patterns, same, same.any(-1))


def previous_token(patterns: Tensor, real: Tensor) -> Tensor:
    """Float32 [head]: attention from a token to the one before it.

    Mean from the third token on: the second's previous token is the first, which draws attention
    for another reason (`first_token`). Olsson et al. 2022, arXiv 2209.11895.
    """
    positions = torch.arange(real.shape[1], device=real.device)
    before = positions[None, :] == positions[:, None] - 1  # [query, key]
    return _attended(patterns, before.expand(len(real), -1, -1), _from_third(real))


def first_token(patterns: Tensor, real: Tensor) -> Tensor:
    """Float32 [head]: attention to the first real token, the sink; mean from the third token on,
    as in `previous_token`. Xiao et al. 2023, arXiv 2309.17453."""
    first = _first(real)[:, None, :].expand(-1, real.shape[1], -1)
    return _attended(patterns, first, _from_third(real))


def copying(patterns: Tensor, tokens: Tensor, real: Tensor, looks: Tensor, right: Tensor) -> Tensor:
    """Float32 [head]: share of attention from where the metric looks, `looks` BoolTensor [probe,
    position], to earlier positions that hold the right next token, `right` LongTensor [probe].

    Mean over these queries; 0 for one before which the token does not stand, and so 0 where no
    probe holds it. After the retrieval score of Wu et al. 2024, arXiv 2404.15574, which counts how
    often the position of largest attention holds the token generated.
    """
    holds = ((tokens == right[:, None]) & real)[:, None, :] & _earlier(tokens)
    return _attended(patterns, holds, looks & real)


def digits(patterns: Tensor, real: Tensor, looks: Tensor, are_digits: Tensor) -> Tensor:
    """Float32 [head]: share of attention from where the metric looks, `looks` BoolTensor [probe,
    position], to digits or operands, `are_digits` BoolTensor [probe, position].

    Compare with their share of the tokens: even attention reaches that. Attention carries operands
    to the last position: Stolfo et al. 2023, arXiv 2305.15054.
    """
    keys = (are_digits & real)[:, None, :].expand(-1, real.shape[1], -1)
    return _attended(patterns, keys, looks & real)


def entropy(patterns: Tensor, real: Tensor) -> Tensor:
    """Float32 [head]: entropy of a query's attention in nats over the log of the number of keys it
    sees: 0 on one key, 1 spread evenly. Mean over the queries that see more than one key.

    Keys are counted as by full causal attention. Clark et al. 2019, arXiv 1906.04341.
    """
    seen = real.cumsum(-1)  # [probe, query]
    nats = torch.special.entr(patterns.float() * real[:, None, None, :]).sum(-1)
    return _mean(nats / seen.clamp(min=2).log()[:, None, :], real & (seen > 1))


def kurtosis(patterns: Tensor, real: Tensor) -> Tensor:
    """Float32 [head]: excess kurtosis, over the keys of a probe, of the mean attention that a key
    receives from all later queries; mean over probes. Large where few keys receive nearly all.

    The first token is no key here: as the sink of most heads it would hide all else, and has
    `first_token`. 0 where every key receives the same; probes with fewer than 4 keys tell nothing
    and are left out. It grows with the number of keys, so it compares on the same probes only.
    Receiver heads, Bogdan et al. 2025, arXiv 2506.19143, there over sentences.
    """
    later = _earlier(real).mT & real[:, None, :]  # [probe, key, query]
    queries = later.sum(-1)  # [probe, key]
    summed = torch.einsum("bhqk,bkq->bhk", patterns.float(), later.float())
    received = summed / queries.clamp(min=1)[:, None, :]  # [probe, head, key]
    keys = real & ~_first(real) & (queries > 0)
    per_probe = _excess_kurtosis(received, keys[:, None, :])
    return _mean(per_probe[..., None], keys.sum(-1, keepdim=True) >= 4)


def _excess_kurtosis(values: Tensor, where: Tensor) -> Tensor:
    """[probe, head]: m4 / m2^2 - 3 of values [probe, head, key] at `where` [probe, 1, key]; 0 where
    they do not differ by more than rounding."""
    count = where.sum(-1).clamp(min=1)  # [probe, 1]
    mean = (values * where).sum(-1) / count
    deviation = (values - mean[..., None]) * where
    second = deviation.square().sum(-1) / count
    differ = second > 1e-12 * mean.square()
    scale = torch.where(differ, second.sqrt(), 1.0)[..., None]
    fourth = (deviation / scale).pow(4).sum(-1) / count
    return torch.where(differ, fourth - 3, 0.0)


def _attended(patterns: Tensor, keys: Tensor, queries: Tensor) -> Tensor:
    """Float32 [head]: attention to `keys` [probe, query, key], mean over `queries` [probe, query]
    of all probes."""
    return _mean(torch.einsum("bhqk,bqk->bhq", patterns.float(), keys.float()), queries)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Float32 [head]: mean of values [probe, head, query] over the queries at `where` [probe,
    query] of all probes; NaN where there is none."""
    chosen = torch.where(where[:, None, :], values, 0.0)
    return (chosen.sum((0, 2)) / where.sum()).float()


def _earlier(tokens: Tensor) -> Tensor:
    """BoolTensor [1, query, key]: keys before the query."""
    length = tokens.shape[1]
    everywhere = torch.ones(1, length, length, dtype=torch.bool, device=tokens.device)
    return everywhere.tril(-1)


def _earlier_same(tokens: Tensor, real: Tensor) -> Tensor:
    """BoolTensor [probe, query, key]: earlier keys that hold the query's token, padding none."""
    same = tokens[:, :, None] == tokens[:, None, :]
    return same & _earlier(tokens) & real[:, :, None] & real[:, None, :]


def _first(real: Tensor) -> Tensor:
    """BoolTensor [probe, position]: the first real token."""
    return real & (real.cumsum(-1) == 1)


def _from_third(real: Tensor) -> Tensor:
    """BoolTensor [probe, position]: real tokens but the first two."""
    return real & (real.cumsum(-1) > 2)


# Passes

Measure = Callable[[Tensor], dict[str, Tensor]]
"""From one layer's patterns, float32 [probe, head, query, key], to scores [head] by name."""


def _on_probes(probes: ProbeSet, digit_ids: Tensor | None) -> Measure:
    tokens, real, looks = probes.clean, probes.attention_mask.bool(), probes.supervised
    labels = probes.labels
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
        hooks.run(decoder, hooks.embed(decoder, tokens), attention_mask)
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
    """LongTensor [token]: the ids that random tokens are drawn from, given the probes' tokens."""
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
