import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.failures.equations import false_equations
from train.tiny.task import work_out

HOLD = [
    "3 + 5 = 8",
    "3+5=8*2=16",  # a running chain
    "15 pairs + 6 pairs = 21 pairs",
    "2 notebooks/child x 3 children = 6 notebooks",
    "56 pencils * $0.25/pencil = $14",
    "He paid 4 x $1,250 = $5,000.",
    r"$4 \times \$20 = \$80$",
    r"\frac{4\times3}{2}=6",
    r"$2\frac{1}{2} + 1 = 3.5$",
    r"\[84^\circ - 29^\circ = \boxed{55^\circ}\]",
    r"\frac{3}{2}\cdot10,\!000/12=\boxed{1250}",
    "12 ÷ 4 × 2 = 6",
    "20% of 60 = 12",
    "8 / 32 * 100 = 25%",
    "8 / 32 = 25%",
    "100 / 3 = 33.33",
    "100 / 3 = 33.3",
    "2 / 3 = 0.66",
    "3^2 + 4^2 = 25",
    "7 + 2(16) = 39",
    "48/2 = <<48/2=24>>24",
    "1. 2 + 3 = 5",
    "6 / 1/3 = 18",
    "(15)(1500) = 22500",
    "200 = (5/4)x\n200(4/5) = 160",
]
SLIPS = [
    "3 + 5 = 9",
    "3+5=8*2=17",
    "50 inches - 3 inches = 27 inches",
    "10 / 20 = 0.25",
    "167 / 108 = 1",
    "8 crackers * (8 friends) = 65 crackers",
    "2 x $1,250 = $2,600",
    r"$\frac{1}{2} \cdot 10 = 6$",
    "$4200+$3000 = $8600",
    "12 × 4 = 46, so he has 46.",
    "1.25 inches + 1.25 inches = 2.40 inches",
    "20% of 60 = 15",
]
NO_ARITHMETIC = [
    "x + 3 = 11",
    "2x = 5 + 3",
    "5x + 10 = 90",
    "3 + n = 4",
    "6b + b + 3b = 18",
    "Step 2 = 15",
    "100 cents = 1 dollar",
    "100 / 3 ≈ 33",
    "100 / 3 = about 33",
    "5! + 1 = 7",
    r"\sqrt{16} + 2 = 6",
    "log 2 + 3 = 4",
    "110_2 + 1_2 = 7_8",
    r"2 \cdot 3 = 6\pi",
    "2 * 3 = 6x",
    "7 mod 3 + 1 = 2",
    "3 + 5 != 9 and 3 + 5 >= 7",
    "1 / 0 = 1",
    "25 - 9 ≡ 5 (mod 11)",
    "2 + 3 = 5 1/2",
    "100 / 6 = 16 and (2/3)",
    "",
]


@pytest.mark.parametrize("text", HOLD)
def test_what_holds_is_no_slip(text: str) -> None:
    assert false_equations(text) == []


@pytest.mark.parametrize("text", SLIPS)
def test_what_does_not_hold_is_a_slip(text: str) -> None:
    assert len(false_equations(text)) == 1


@pytest.mark.parametrize("text", NO_ARITHMETIC)
def test_what_cannot_be_read_for_sure_is_passed_over(text: str) -> None:
    assert false_equations(text) == []


numbers = st.integers(0, 999) | st.decimals("0.01", "99.99", places=2)
signs = st.sampled_from("+-*")


@given(numbers, signs, numbers, st.sampled_from(["", " apples", " pairs of shoes", " dollars"]))
def test_a_right_result_is_none_and_any_other_one(one, sign, other, unit: str) -> None:
    exact = {"+": one + other, "-": one - other, "*": one * other}[sign]
    left = f"So {one}{unit} {sign} {other}{unit}"
    assert false_equations(f"{left} = {exact}{unit}.") == []
    assert len(false_equations(f"{left} = {exact + 7}{unit}.")) == 1


@given(st.integers(0, 10_000), st.integers(1, 999), st.integers(1, 4))
def test_rounding_to_the_decimals_written_is_no_slip(one: int, other: int, decimals: int) -> None:
    rounded = f"{float(Fraction(one, other)):.{decimals}f}"
    assert false_equations(f"{one} / {other} = {rounded}") == []


@given(
    st.integers(0, 9).map(str),
    st.lists(st.tuples(signs, st.integers(0, 9)), min_size=1, max_size=4),
    st.sampled_from("+-"),
    st.randoms(use_true_random=False),
)
def test_the_tiny_tasks_slips_are_those_that_were_written(first, rest, cue, chance) -> None:
    expression = first + "".join(f"{sign}{digit}" for sign, digit in rest)
    wrong = []

    def slip(result: int) -> int:
        written = chance.choice([result, (result + 3) % 10])
        wrong.append(written != result)
        return written

    text = work_out(expression, cue, slip)
    assert len(false_equations(text, modulus=10)) == sum(wrong)
    assert false_equations(work_out(expression, cue, lambda result: result), modulus=10) == []


def test_modulo_ten_a_bare_number_is_an_equation_too() -> None:
    assert false_equations("-7=3;3=7;5*79**=7;Tq6=4", modulus=10) == ["3 = 7"]


@given(st.text(alphabet="0123456789+-*/=()%$.,x \n\\{}^fraced", max_size=120))
def test_any_text_can_be_read(text: str) -> None:
    false_equations(text)


def test_a_long_text_is_read_in_no_time() -> None:
    text = "".join(random.Random(0).choices("0123456789+-*/=() apples\n", k=100_000))
    false_equations(text)
