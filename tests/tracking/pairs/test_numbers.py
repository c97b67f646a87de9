"""Numbers are changed in their own style."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.pairs.numbers import changeable, numbers, restyle


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


@pytest.mark.parametrize(
    ("question", "left"),
    [
        ("He has 48 apples and $2,500.75.", ["48", "2,500.75"]),
        ("A 120-page book", []),
        ("Her 120-page book", ["120"]),
        ("5 red and 5 blue", []),
        ("20% of 40", ["40"]),
        ("1/2 of it, 3.5 miles at 5:30, 4x, x4, 2^3 and H2", ["3.5"]),
        ("7 hours each day of the week", []),
        ("12 eggs, or one dozen", []),
        ("3 and 1/2 feet, 5 1/2 inches, 6 million", []),
        ("from 10-15 of them, -4 degrees, at 5 pm", []),
        ("$\\frac{12}{5}$ and 1,2,3", []),
        ("1 apple and 0 pears", []),
    ],
)
def test_only_numbers_that_are_their_digits_are_changed(question, left):
    assert [number.text for number in changeable(question)] == left
