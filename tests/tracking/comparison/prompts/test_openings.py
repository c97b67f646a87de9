"""Openings are cut to equal length where the answers part, and exchange as a contrast should."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.closeness import assert_close
from tests.builders.draws import few
from tests.builders.prompt_pairs import pair_sets, same
from tests.builders.tokenizers import CHARACTERS, NUMBERS_WHOLE
from tracking import PromptPairs, attribute
from tracking.attribution.metrics import neg_logit_diff
from tracking.comparison.prompts.openings import opening_pair, swapped
from tracking.model.decoder import Decoder
from tracking.model.ends import AllEnds
from tracking.nodes.effects import NodeEffects, node_effects
from tracking.pairs.text import Dropped, Pair

answers = st.text(st.sampled_from("abc"), min_size=0, max_size=9)


def effects_of(model, pairs: PromptPairs) -> NodeEffects:
    nodes = torch.ones(len(Decoder.of(model).graph.nodes), dtype=torch.bool)
    return node_effects(AllEnds.of(Decoder.of(model), pairs, 4), nodes, neg_logit_diff)


def test_openings_are_cut_where_both_answers_go_on_differently() -> None:
    pair = opening_pair(CHARACTERS, "2+2? ", "Okay, so I think", "To deter, mine it", length=4)
    assert isinstance(pair, Pair)
    assert pair.text == ("2+2? Okay⟦,⟧", "2+2? To d⟦e⟧")


def test_openings_grow_until_the_next_tokens_part() -> None:
    pair = opening_pair(CHARACTERS, "? ", "xaabbc", "yaabbd", length=2)
    assert isinstance(pair, Pair)
    assert pair.text == ("? xaabb⟦c⟧", "? yaabb⟦d⟧")


@given(answers, answers, st.integers(1, 5))
def test_a_pair_is_the_shortest_that_the_rule_allows(first: str, second: str, length: int) -> None:
    ends = [
        end
        for end in range(length, min(len(first), len(second)))
        if first[:end] != second[:end] and first[end] != second[end]
    ]
    pair = opening_pair(CHARACTERS, "?", first, second, length)
    if not ends:
        assert isinstance(pair, Dropped)
        return
    assert isinstance(pair, Pair)
    sides = (first, second)
    assert pair.text == tuple(f"?{side[: ends[0]]}⟦{side[ends[0]]}⟧" for side in sides)
    assert len(pair.clean) == len(pair.corrupted) == 1 + ends[0]


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ("aaaa", "aaaa", "both models open alike"),
        ("aaaab", "aaaa", "both models open alike"),
        ("aa", "bbbbbb", "an answer ends within its opening"),
        ("aaaaaa", "bbbaaa", "both openings go on with the same token"),
    ],
)
def test_what_is_no_contrast_is_dropped_with_its_reason(first, second, reason) -> None:
    assert opening_pair(CHARACTERS, "?", first, second, length=3) == Dropped(reason)


def test_a_prompt_that_merges_with_one_opening_is_dropped() -> None:
    pair = opening_pair(NUMBERS_WHOLE, "a = 1", "2 + a b c", " + b c a a", length=2)
    assert pair == Dropped("a token spans the prompt and an opening")


@given(pair_sets())
def test_swapping_twice_is_no_swap(pairs: PromptPairs) -> None:
    assert same(swapped(swapped(pairs)), pairs)
    assert torch.equal(swapped(pairs).clean, pairs.corrupted)


@few(4)
@given(seed=st.integers(0, 99))
def test_a_swap_exchanges_what_is_lost_and_what_is_restored(tiny_decoder, random_pairs, seed):
    model, pairs = tiny_decoder(seed=seed), random_pairs(ragged=True, seed=seed)
    one, other = effects_of(model, pairs), effects_of(model, swapped(pairs))
    assert_close(one.behaviour, other.behaviour)
    assert_close(one.corrupt, other.restore)
    assert_close(one.restore, other.corrupt)


@few(4)
@given(seed=st.integers(0, 99))
def test_a_swap_leaves_scores_by_logit_difference_as_they_are(tiny_decoder, random_pairs, seed):
    model, pairs = tiny_decoder(seed=seed), random_pairs(ragged=True, seed=seed)
    one, other = (
        attribute(model, each, metric="neg_logit_diff", steps=4, quadrature="gauss-legendre")
        for each in (pairs, swapped(pairs))
    )
    assert_close(one.edges, other.edges)


def test_a_swap_changes_scores_by_kl(tiny_decoder, random_pairs) -> None:
    model, pairs = tiny_decoder(), random_pairs()
    one, other = (
        attribute(model, each, metric="kl", steps=4, quadrature="gauss-legendre").edges
        for each in (pairs, swapped(pairs))
    )
    assert float((one - other).abs().max()) > 0.05 * float(one.abs().max())
