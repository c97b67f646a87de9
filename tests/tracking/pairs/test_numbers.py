"""Numbers are changed in their own style."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from tracking.pairs.numbers import digit_swaps, numbers, restyle


@given(st.integers(0, 10**9), st.integers(0, 4), st.booleans())
def test_a_number_restyled_as_itself_is_itself(whole, decimals, commas):
    text = f"{whole:,}" if commas else str(whole)
    text += "." + "7" * decimals if decimals else ""
    (number,) = numbers(f"costs ${text}.")
    assert number.text == text
    assert restyle(text, number.value) == text


@given(st.integers(0, 9999), st.integers(0, 9999))
def test_a_restyled_number_has_its_value_and_length(old, new):
    written = restyle(f"{old:,}", Fraction(new))
    assert (written is not None) == (len(f"{new:,}") == len(f"{old:,}"))
    assert written is None or numbers(written)[0].value == new


def test_what_a_style_cannot_write_is_none():
    assert restyle("24", Fraction(47, 2)) is None
    assert restyle("24", Fraction(-4)) is None
    assert restyle("2.50", Fraction(15, 4)) == "3.75"
    assert restyle(".5", Fraction(3, 4)) is None
    assert restyle(".5", Fraction(1, 4)) is None
    assert restyle(".5", Fraction(2, 5)) == ".4"


def test_nobody_writes_a_last_zero_where_none_was():
    assert restyle("7.5", Fraction(8)) is None
    assert restyle("2.50", Fraction(3)) == "3.00"


@given(st.integers(0, 10**6), st.integers(0, 2))
def test_a_digit_swap_changes_one_digit_and_stays_a_number_of_that_form(whole, decimals):
    text = str(whole) + ("." + "7" * decimals if decimals else "")
    for swap in digit_swaps(numbers(text)[0]):
        assert sum(a != b for a, b in zip(text, swap, strict=True)) == 1
        (number,) = numbers(swap)
        assert restyle(text, number.value) == swap
