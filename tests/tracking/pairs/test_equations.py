"""Equations of a solution are exact."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.pairs.equations import evaluate, read_solution, rework


def test_arithmetic_is_exact_and_nothing_else_is_evaluated():
    assert evaluate("(80000+50000)*1.5") == 195000
    assert evaluate("0.1+0.2") == Fraction(3, 10)
    for expression in ("1/0", "2**9", "f(2)", "x+1", "", "5%*20", "'a'*3", "1+" * 200 + "1"):
        assert evaluate(expression) is None


@pytest.mark.parametrize(
    ("expression", "new", "result"),
    [
        ("48/2", 46, 23),
        ("48/2", 47, None),  # half a clip
        ("(50-48)*3", 49, 3),
        ("50-48", 51, None),
        ("(20-48)+50", 59, 11),  # below zero before as after
        ("48/100", 56, Fraction(56, 100)),
        ("48/60", 66, None),  # a part became more than one
        ("48*0.25", 49, None),
        ("12*48", 47, 564),
    ],
)
def test_every_step_of_a_changed_equation_comes_out_as_it_did(expression, new, result):
    assert rework(expression, {Fraction(48): Fraction(new)}) == result


@given(st.lists(st.integers(1, 50), min_size=2, max_size=5), st.data())
def test_a_reworked_sum_is_the_sum_of_the_changed_numbers(terms, data):
    old = data.draw(st.sampled_from(terms))
    new = data.draw(st.integers(1, 99))
    changed = [new if term == old else term for term in terms]
    expression = "+".join(map(str, terms))
    assert rework(expression, {Fraction(old): Fraction(new)}) == sum(changed)


def test_annotations_become_equations_and_leave_the_text():
    solution = read_solution("Cost is 80,000+50,000=$<<80000+50000=130000>>130,000 in all.")
    (equation,) = solution.equations
    assert solution.text == "Cost is 80,000+50,000=$130,000 in all."
    assert equation.operands == [80000, 50000] and equation.value == 130000 and equation.holds
    assert equation.result and solution.text[equation.result.start :].startswith("130,000 in")


@pytest.mark.parametrize(
    ("text", "expressions"),
    [
        ("so $3 \\times 4 = 12$ of them", ["3 * 4"]),
        ("\\$15 + \\$23 = \\$38.", ["15 + 23"]),
        ("First, 12000/15 = 800. Then 5 x 3 = 15", ["12000/15", "5 * 3"]),
        ("(2 + 3) * 4 = 20", ["(2 + 3) * 4"]),
        ("a total of $5 \\times 6 = \\boxed{30}$ outfits", ["5 * 6"]),
        ("$2 + 3 = \\boxed{5}\\%$", []),
        ("x + 3 + 4 = 7", []),
        ("2x(3+4) = 14", []),
        ("x^3+4 = 7", []),
        ("3 + 4 = 5 + 2", []),
        ("3 + 4 = 7x", []),
        ("3 + 4 = 7\\pi", []),
        ("a = 5", []),
    ],
)
def test_only_whole_equations_are_found_in_plain_text(text, expressions):
    assert [equation.expression for equation in read_solution(text).equations] == expressions
