"""A pair of texts ends where its continuations part."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.tokenizers import CHARACTERS, NUMBERS_WHOLE
from tracking.errors import BadInput
from tracking.pairs.text import Dropped, Pair, choose, pair_at_first_difference


def test_a_pair_ends_where_the_continuations_part():
    pair = pair_at_first_difference(CHARACTERS, ("48/2=", "so 24"), ("46/2=", "so 23"))
    assert isinstance(pair, Pair)
    assert pair.text == ("48/2=so 2⟦4⟧", "46/2=so 2⟦3⟧")
    assert CHARACTERS.decode([pair.correct, pair.incorrect]) == "43"
    assert len(pair.clean) == len(pair.corrupted) == len("48/2=so 2")


@pytest.mark.parametrize(
    ("tokenizer", "clean", "corrupted", "reason"),
    [
        (CHARACTERS, ("48=", "2"), ("148=", "3"), "unequal token length before the target"),
        (CHARACTERS, ("48=", "2"), ("46=", "2"), "continuations do not differ"),
        (CHARACTERS, ("48=", "2"), ("46=", "23"), "continuations do not differ"),
        (CHARACTERS, ("48=", "2"), ("48=", "3"), "prompts do not differ"),
    ],
)
def test_a_pair_that_is_no_pair_is_dropped_with_its_reason(tokenizer, clean, corrupted, reason):
    assert pair_at_first_difference(tokenizer, clean, corrupted) == Dropped(reason)


def test_a_token_over_the_boundary_is_the_continuations():
    pair = pair_at_first_difference(NUMBERS_WHOLE, ("b+1", "2"), ("c+1", "3"))
    assert isinstance(pair, Pair)
    assert pair.text == ("b+⟦12⟧", "c+⟦13⟧")


def test_a_tokenizer_without_offsets_is_refused():
    with pytest.raises(BadInput, match="fast tokenizer"):
        pair_at_first_difference(object(), ("a", "b"), ("c", "d"))


DIGITS = st.text("0123456789", min_size=1, max_size=6)


@given(st.tuples(DIGITS, DIGITS), st.tuples(DIGITS, DIGITS))
def test_every_pair_is_of_equal_length_and_differs_in_prompt_and_target(clean, corrupted):
    pair = pair_at_first_difference(CHARACTERS, clean, corrupted)
    if isinstance(pair, Pair):
        assert len(pair.clean) == len(pair.corrupted) >= len(clean[0])
        assert pair.clean != pair.corrupted and pair.correct != pair.incorrect
        whole = CHARACTERS("".join(clean))["input_ids"]
        assert whole[: len(pair.clean) + 1] == [*pair.clean, pair.correct]


PAIR = Pair((1,), (2,), 3, 4, ("a", "b"))


def test_the_first_usable_pairs_are_taken_and_no_more_are_made():
    def endless():
        while True:
            yield Dropped("odd")
            yield PAIR

    assert choose(endless(), "operand", count=5, minimum=5) == [PAIR] * 5


def test_too_few_pairs_are_refused_with_the_reasons_counted():
    pairs = [PAIR, *[Dropped("too odd")] * 2, *[Dropped("not used")] * 30]
    with pytest.raises(BadInput) as refusal:
        choose(pairs, "operand", count=128, minimum=16)
    assert str(refusal.value) == (
        "pairs 'operand': 1 usable pairs of 33 (need at least 16); dropped: 30 not used, 2 too odd"
    )
