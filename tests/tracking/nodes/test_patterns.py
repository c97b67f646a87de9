"""Attention patterns score by their names."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from tests.builders.paddings import LENGTH, paddings
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


def pattern(target: list[int]) -> Tensor:
    """Query i attends to key target[i] and nothing else."""
    return nn.functional.one_hot(torch.tensor(target), len(target)).float()[None, None]


def even(length: int = LENGTH) -> Tensor:
    """Every query attends alike to all that it sees."""
    seen = torch.ones(length, length).tril()
    return (seen / seen.sum(-1, keepdim=True))[None, None]


def padded(patterns: Tensor, padding: tuple[int, int]) -> Tensor:
    """The same with padding before and after, whose queries attend to anything, real or not."""
    left, right = padding
    out = nn.functional.pad(patterns, (left, right, left, right))
    total = out.shape[-1]
    wild = torch.rand(total, total, generator=torch.Generator().manual_seed(0)).softmax(-1)
    rows = ~real_of(patterns.shape[-1], padding)[0]
    out[..., rows, :] = wild[rows]
    return out


def row(values: list[int] | Tensor, padding: tuple[int, int], fill: int = 0) -> Tensor:
    """[1, position]: one value a token, `fill` on padding."""
    return nn.functional.pad(torch.as_tensor(values)[None], padding, value=fill)


def real_of(length: int, padding: tuple[int, int]) -> Tensor:
    return row(torch.ones(length, dtype=torch.bool), padding)


PREVIOUS = [max(i - 1, 0) for i in range(LENGTH)]


FIRST = [0] * LENGTH


SELF = list(range(LENGTH))


REPEATED = [5, 6, 7, 8, 5, 6, 7, 8]  # tokens


INDUCTION = [0, 1, 2, 3, 1, 2, 3, 4]


DUPLICATE = [0, 1, 2, 3, 0, 1, 2, 3]


LAST = torch.arange(LENGTH) == LENGTH - 1


@paddings
@pytest.mark.parametrize(
    ("target", "named"),
    [
        (PREVIOUS, "previous"),
        (FIRST, "first"),
        (INDUCTION, "induction"),
        (DUPLICATE, "duplicate"),
        (SELF, "none"),
    ],
)
def test_a_perfect_pattern_scores_1_by_its_name(
    target: list[int], named: str, padding: tuple[int, int]
) -> None:
    seen, real = padded(pattern(target), padding), real_of(LENGTH, padding)
    tokens = row(REPEATED, padding, fill=5)  # padding holds the id of a real token
    result = {
        "previous": float(previous_token(seen, real).value),
        "first": float(first_token(seen, real).value),
        "induction": float(induction(seen, tokens, real).value),
        "duplicate": float(duplicate_token(seen, tokens, real).value),
    }
    assert result.pop(named, 1.0) == 1
    # one of the four repeated tokens has the first token as its earlier occurrence, and one of the
    # six queries from the third on attends to it
    shared = {("first", "duplicate"): 1 / 4, ("duplicate", "first"): 1 / 6}
    for name, score in result.items():
        assert score == pytest.approx(shared.get((named, name), 0.0)), name


@paddings
def test_even_attention_scores_its_share(padding: tuple[int, int]) -> None:
    seen, real = padded(even(), padding), real_of(LENGTH, padding)
    tokens = row(REPEATED, padding, fill=5)
    from_third = sum(1 / n for n in range(3, 9)) / 6
    repeated = sum(1 / n for n in range(5, 9)) / 4
    assert float(previous_token(seen, real).value) == pytest.approx(from_third)
    assert float(first_token(seen, real).value) == pytest.approx(from_third)
    assert float(induction(seen, tokens, real).value) == pytest.approx(repeated)
    assert float(duplicate_token(seen, tokens, real).value) == pytest.approx(repeated)


def test_induction_follows_the_last_occurrence_and_duplicates_count_all() -> None:
    tokens, real = torch.tensor([[1, 2, 1, 3, 1]]), real_of(5, (0, 0))
    assert float(induction(pattern([0, 1, 1, 1, 3]), tokens, real).value) == 1
    assert float(induction(pattern([0, 1, 1, 1, 1]), tokens, real).value) == 0.5
    spread = pattern([0, 1, 0, 3, 0])
    spread[0, 0, 4] = torch.tensor([0.5, 0, 0.5, 0, 0])
    assert float(duplicate_token(spread, tokens, real).value) == 1


def test_a_token_twice_in_a_row_is_no_induction() -> None:
    tokens, real = torch.tensor([[1, 1, 2]]), real_of(3, (0, 0))
    assert float(induction(pattern([0, 1, 2]), tokens, real).value.isnan()) == 1


def test_where_no_query_can_tell_the_score_is_nan() -> None:
    tokens, real = torch.arange(2)[None], real_of(2, (0, 0))
    for score in (
        induction(even(2), tokens, real).value,
        duplicate_token(even(2), tokens, real).value,
        previous_token(even(2), real).value,
        first_token(even(2), real).value,
        kurtosis(even(2), real).value,
        entropy(even(1), real[:, :1]).value,
    ):
        assert score.shape == (1,) and score.dtype == torch.float32 and bool(score.isnan())


@paddings
def test_copying_is_the_share_on_earlier_right_tokens(padding: tuple[int, int]) -> None:
    tokens, right = row([4, 9, 4, 3, 9, 2, 1, 9], padding, fill=9), torch.tensor([9])
    real, looks = real_of(LENGTH, padding), row(LAST, padding)
    at_last = even()
    at_last[0, 0, -1] = torch.tensor([0.1, 0.2, 0.0, 0.0, 0.3, 0.0, 0.0, 0.4])
    assert float(
        copying(padded(at_last, padding), tokens, real, looks, right).value
    ) == pytest.approx(
        0.5  # the last token is a 9 itself, but not an earlier one
    )
    assert float(copying(padded(at_last, padding), tokens, real, looks, right + 1).value) == 0


def test_copying_counts_a_pair_without_the_right_token_as_0() -> None:
    seen = pattern(FIRST).repeat(2, 1, 1, 1)
    tokens = torch.tensor([[9] + [1] * 7, [1] * 8])
    real, looks = real_of(LENGTH, (0, 0)).repeat(2, 1), LAST.repeat(2, 1)
    assert float(copying(seen, tokens, real, looks, torch.tensor([9, 9])).value) == 0.5


@paddings
def test_digits_is_the_share_on_digits_from_where_the_metric_looks(
    padding: tuple[int, int],
) -> None:
    seen, real = padded(even(), padding), real_of(LENGTH, padding)
    looks = row(torch.arange(LENGTH) >= 6, padding)
    are_digits = row([1, 1, 0, 0, 0, 0, 0, 0], padding, fill=1).bool()
    assert float(digits(seen, real, looks, are_digits).value) == pytest.approx((2 / 7 + 2 / 8) / 2)
    assert float(digits(seen, real, looks, torch.zeros_like(real)).value) == 0


@paddings
def test_entropy_is_1_spread_evenly_and_0_on_one_key(padding: tuple[int, int]) -> None:
    real = real_of(LENGTH, padding)
    assert float(entropy(padded(even(), padding), real).value) == pytest.approx(1)
    assert float(entropy(padded(pattern(PREVIOUS), padding), real).value) == 0


def test_entropy_of_two_keys_among_four() -> None:
    seen = pattern([0, 1, 2, 3])
    seen[0, 0, 3] = torch.tensor([0.5, 0.5, 0.0, 0.0])
    wanted = math.log(2) / math.log(4) / 3  # queries 1 and 2 attend to one key
    assert float(entropy(seen, real_of(4, (0, 0))).value) == pytest.approx(wanted)


@paddings
def test_kurtosis_is_scipy_s_of_what_keys_receive(padding: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    length = 12
    drawn = torch.randn(1, 1, length, length, generator=generator) * 3
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    seen = drawn.masked_fill(future, -torch.inf).softmax(-1)
    received = [float(seen[0, 0, key + 1 :, key].mean()) for key in range(1, length - 1)]
    result = kurtosis(padded(seen, padding), real_of(length, padding)).value
    assert float(result) == pytest.approx(float(stats.kurtosis(received)), abs=1e-4)


def test_kurtosis_is_high_for_a_receiver_and_0_where_keys_receive_alike() -> None:
    real = real_of(12, (0, 0))
    receiver = pattern([0, 1, 2, 3] + [3] * 8)
    assert float(kurtosis(receiver, real).value) == pytest.approx(10 - 2 + 1 / 9 - 3, abs=1e-4)
    assert float(kurtosis(pattern([0] * 12), real).value) == 0  # a sink receives nothing elsewhere
    assert float(kurtosis(pattern(list(range(12))), real).value) == 0


def test_heads_and_pairs_are_kept_apart() -> None:
    """Means are over all valid queries of all pairs; a head's score is its own."""
    seen = torch.cat([pattern(PREVIOUS), pattern(FIRST)], dim=1).repeat(2, 1, 1, 1)
    seen[1, 0] = pattern(FIRST)[0, 0]
    real = torch.stack([torch.ones(LENGTH), torch.arange(LENGTH) < 4]).bool()
    assert previous_token(seen, real).value.tolist() == pytest.approx([6 / 8, 0])
    assert first_token(seen, real).value.tolist() == pytest.approx([2 / 8, 1])
