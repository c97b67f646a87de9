"""Scores of attention patterns: where a head looks, one figure a head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Scores of attention patterns
#
# `patterns` [pair, head, query, key]: attention weights, of one layer's heads or of all;
# `tokens` LongTensor, `real` BoolTensor (false on padding), both [pair, position].


@dataclass(frozen=True)
class Mean:
    """A mean over queries (or pairs) that may come in parts: those of several batches add up."""

    total: Tensor  # float32 [head]
    count: Tensor  # LongTensor [], of what `total` sums

    def __add__(self, other: Mean) -> Mean:
        return Mean(self.total + other.total, self.count + other.count)

    @property
    def value(self) -> Tensor:
        """Float32 [head]; NaN where there is nothing to take the mean of."""
        return self.total / self.count


def induction(patterns: Tensor, tokens: Tensor, real: Tensor) -> Mean:
    """Of each head: attention from a token to the position after its last occurrence, mean over
    the tokens that occurred before. Meant for repeated random tokens.

    Where a token stands twice in a row, the position after the first is the token's own: left out.
    Olsson et al. 2022, arXiv 2209.11895.
    """
    positions = torch.arange(tokens.shape[1], device=tokens.device)
    last = torch.where(_earlier_same(tokens, real), positions, -1).amax(-1)  # [pair, query]
    follows = (last >= 0) & (last + 1 < positions)
    return _attended(patterns, positions == last[..., None] + 1, follows)


def duplicate_token(patterns: Tensor, tokens: Tensor, real: Tensor) -> Mean:
    """Of each head: attention from a token to all its earlier occurrences, mean over the tokens
    that have one. Wang et al. 2022, arXiv 2211.00593."""
    same = _earlier_same(tokens, real)
    return _attended(patterns, same, same.any(-1))


def previous_token(patterns: Tensor, real: Tensor) -> Mean:
    """Of each head: attention from a token to the one before it.

    Mean from the third token on: the second's previous token is the first, which draws attention
    for another reason (`first_token`). Olsson et al. 2022, arXiv 2209.11895.
    """
    positions = torch.arange(real.shape[1], device=real.device)
    before = positions[None, :] == positions[:, None] - 1  # [query, key]
    return _attended(patterns, before.expand(len(real), -1, -1), _from_third(real))


def first_token(patterns: Tensor, real: Tensor) -> Mean:
    """Of each head: attention to the first real token, the sink; mean from the third token on,
    as in `previous_token`. Xiao et al. 2023, arXiv 2309.17453."""
    first = _first(real)[:, None, :].expand(-1, real.shape[1], -1)
    return _attended(patterns, first, _from_third(real))


def copying(patterns: Tensor, tokens: Tensor, real: Tensor, looks: Tensor, right: Tensor) -> Mean:
    """Of each head: share of attention from where the metric looks, `looks` BoolTensor [pair,
    position], to earlier positions that hold the right next token, `right` LongTensor [pair].

    Mean over these queries; 0 for one before which the token does not stand, and so 0 where no
    pair holds it. After the retrieval score of Wu et al. 2024, arXiv 2404.15574, which counts how
    often the position of largest attention holds the token generated.
    """
    holds = ((tokens == right[:, None]) & real)[:, None, :] & _earlier(tokens)
    return _attended(patterns, holds, looks & real)


def digits(patterns: Tensor, real: Tensor, looks: Tensor, are_digits: Tensor) -> Mean:
    """Of each head: share of attention from where the metric looks, `looks` BoolTensor [pair,
    position], to digits or operands, `are_digits` BoolTensor [pair, position].

    Compare with their share of the tokens: even attention reaches that. Attention carries operands
    to the last position: Stolfo et al. 2023, arXiv 2305.15054.
    """
    keys = (are_digits & real)[:, None, :].expand(-1, real.shape[1], -1)
    return _attended(patterns, keys, looks & real)


def entropy(patterns: Tensor, real: Tensor) -> Mean:
    """Of each head: entropy of a query's attention in nats over the log of the number of keys it
    sees: 0 on one key, 1 spread evenly. Mean over the queries that see more than one key.

    Keys are counted as by full causal attention. Clark et al. 2019, arXiv 1906.04341.
    """
    seen = real.cumsum(-1)  # [pair, query]
    nats = torch.special.entr(patterns.float() * real[:, None, None, :]).sum(-1)
    return _mean(nats / seen.clamp(min=2).log()[:, None, :], real & (seen > 1))


def kurtosis(patterns: Tensor, real: Tensor) -> Mean:
    """Of each head: excess kurtosis, over the keys of a pair, of the mean attention that a key
    receives from all later queries; mean over pairs. Large where few keys receive nearly all.

    The first token is no key here: as the sink of most heads it would hide all else, and has
    `first_token`. 0 where every key receives the same; pairs with fewer than 4 keys tell nothing
    and are left out. It grows with the number of keys, so it compares on the same pairs only.
    Receiver heads, Bogdan et al. 2025, arXiv 2506.19143, there over sentences.
    """
    later = _earlier(real).mT & real[:, None, :]  # [pair, key, query]
    queries = later.sum(-1)  # [pair, key]
    summed = torch.einsum("bhqk,bkq->bhk", patterns.float(), later.float())
    received = summed / queries.clamp(min=1)[:, None, :]  # [pair, head, key]
    keys = real & ~_first(real) & (queries > 0)
    per_pair = _excess_kurtosis(received, keys[:, None, :])
    return _mean(per_pair[..., None], keys.sum(-1, keepdim=True) >= 4)


def _excess_kurtosis(values: Tensor, where: Tensor) -> Tensor:
    """[pair, head]: m4 / m2^2 - 3 of values [pair, head, key] at `where` [pair, 1, key]; 0 where
    they do not differ by more than rounding."""
    count = where.sum(-1).clamp(min=1)  # [pair, 1]
    mean = (values * where).sum(-1) / count
    deviation = (values - mean[..., None]) * where
    second = deviation.square().sum(-1) / count
    differ = second > 1e-12 * mean.square()
    scale = torch.where(differ, second.sqrt(), 1.0)[..., None]
    fourth = (deviation / scale).pow(4).sum(-1) / count
    return torch.where(differ, fourth - 3, 0.0)


def _attended(patterns: Tensor, keys: Tensor, queries: Tensor) -> Mean:
    """Of each head: attention to `keys` [pair, query, key], mean over `queries` [pair, query]
    of all pairs."""
    return _mean(torch.einsum("bhqk,bqk->bhq", patterns.float(), keys.float()), queries)


def _mean(values: Tensor, where: Tensor) -> Mean:
    """Of each head: values [pair, head, query] at `where` [pair, query] of all pairs."""
    chosen = torch.where(where[:, None, :], values, 0.0)
    return Mean(chosen.sum((0, 2)).float(), where.sum())


def _earlier(tokens: Tensor) -> Tensor:
    """BoolTensor [1, query, key]: keys before the query."""
    length = tokens.shape[1]
    everywhere = torch.ones(1, length, length, dtype=torch.bool, device=tokens.device)
    return everywhere.tril(-1)


def _earlier_same(tokens: Tensor, real: Tensor) -> Tensor:
    """BoolTensor [pair, query, key]: earlier keys that hold the query's token, padding none."""
    same = tokens[:, :, None] == tokens[:, None, :]
    return same & _earlier(tokens) & real[:, :, None] & real[:, None, :]


def _first(real: Tensor) -> Tensor:
    """BoolTensor [pair, position]: the first real token."""
    return real & (real.cumsum(-1) == 1)


def _from_third(real: Tensor) -> Tensor:
    """BoolTensor [pair, position]: real tokens but the first two."""
    return real & (real.cumsum(-1) > 2)
