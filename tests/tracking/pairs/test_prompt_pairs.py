"""Pairs fit together, and picked ones are the same pairs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.prompt_pairs import ids, pair_sets, same
from tracking.errors import BadInput
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.pairs.text import Pair


def test_by_default_every_token_counts_and_the_metric_looks_at_the_last():
    pairs = PromptPairs(ids([1, 2, 3]), ids([1, 5, 3]))
    assert pairs.attention_mask.tolist() == [[1, 1, 1]]
    assert pairs.supervised.tolist() == [[False, False, True]]


def test_the_last_token_is_found_with_padding_on_either_side():
    mask = ids([0, 0, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0])
    pairs = PromptPairs(torch.ones(3, 4).long(), torch.ones(3, 4).long(), mask)
    assert pairs.supervised.long().argmax(dim=1).tolist() == [3, 2, 0]
    assert pairs.supervised.sum() == 3


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"corrupted": ids([1, 2])}, "differ in shape"),
        ({"clean": ids([]).long(), "corrupted": ids([]).long()}, "not one token"),
        ({"clean": torch.ones(3).long(), "corrupted": torch.ones(3).long()}, r"\[pair, position"),
        ({"clean": ids([1, 2, -1])}, "clean holds negative"),
        ({"corrupted": torch.ones(1, 3)}, "torch.float32"),
        ({"attention_mask": ids([1, 0, 1])}, "hole"),
        ({"attention_mask": ids([0, 0, 0])}, "without a token"),
        ({"attention_mask": ids([1, 2, 1])}, "more than 0 and 1"),
        ({"attention_mask": ids([1, 1])}, "attention_mask is"),
        (
            {"attention_mask": ids([1, 1, 0]), "supervised": ids([0, 1, 1]).bool()},
            "supervised is true on padding",
        ),
        ({"supervised": ids([0, 0, 0]).bool()}, "nowhere"),
        ({"supervised": ids([1]).bool()}, "supervised is"),
        ({"labels": ids([1, 2, 3])}, "correct, incorrect"),
        ({"labels": ids([1, -2])}, "negative"),
        ({"labels": torch.ones(1, 2)}, "torch.float32"),
        ({"texts": (("a", "b"), ("c", "d"))}, "2 texts for 1 pairs"),
    ],
)
def test_what_does_not_fit_together_is_refused_in_one_line(arguments, complaint):
    with pytest.raises(BadInput, match=complaint) as refusal:
        PromptPairs(**{"clean": ids([1, 2, 3]), "corrupted": ids([1, 5, 3]), **arguments})
    assert "\n" not in str(refusal.value)


def test_pairs_are_padded_on_the_right_and_keep_their_targets():
    pairs = [Pair((1, 2), (1, 3), 7, 8, ("a", "b")), Pair((4, 5, 6), (4, 9, 6), 1, 2, ("c", "d"))]
    pairs = PromptPairs.padded(pairs, pad_token_id=99)
    assert pairs.labels is not None
    assert pairs.clean.tolist() == [[1, 2, 99], [4, 5, 6]]
    assert pairs.attention_mask.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert pairs.labels.tolist() == [[7, 8], [1, 2]]
    assert pairs.texts == (("a", "b"), ("c", "d"))


def test_no_pairs_and_uneven_pairs_are_refused():
    with pytest.raises(BadInput, match="not one pair"):
        PromptPairs.padded([], pad_token_id=0)
    with pytest.raises(BadInput, match="1 and 2 tokens"):
        PromptPairs.padded([Pair((1,), (1, 2), 3, 4, ("", ""))], pad_token_id=0)


@given(pair_sets(), st.data())
def test_picked_pairs_are_the_same_by_list_tensor_and_slice(pairs, data):
    count = data.draw(st.integers(1, len(pairs)))
    by_list = pairs[list(range(count))]
    assert len(by_list) == count
    assert same(by_list, pairs[:count]) and same(by_list, pairs[torch.arange(count)])
    assert same(pairs[list(range(len(pairs)))], pairs)


@given(pair_sets())
def test_pairs_on_another_device_are_the_same_pairs(pairs):
    assert same(pairs.to(torch.device("cpu")), pairs)


def test_a_pick_may_repeat_pairs_but_not_be_empty():
    pairs = PromptPairs(ids([1], [2]), ids([3], [4]), texts=(("a", "b"), ("c", "d")))
    assert pairs[[1, 1, 0]].clean.tolist() == [[2], [2], [1]]
    assert pairs[[1, 1, 0]].texts == (("c", "d"), ("c", "d"), ("a", "b"))
    with pytest.raises(BadInput, match="non-empty"):
        pairs[5:]
