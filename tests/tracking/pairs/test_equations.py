"""Equations of a solution are exact."""

from fractions import Fraction

import pytest

from tracking.pairs.equations import evaluate, read_solution


def test_arithmetic_is_exact_and_nothing_else_is_evaluated():
    assert evaluate("(80000+50000)*1.5") == 195000
    assert evaluate("0.1+0.2") == Fraction(3, 10)
    assert evaluate("48/2", {Fraction(48): Fraction(46)}) == 23
    for expression in ("1/0", "2**9", "f(2)", "x+1", "", "5%*20", "'a'*3", "1+" * 200 + "1"):
        assert evaluate(expression) is None


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
