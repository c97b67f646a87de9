"""Each rule objects to what makes a bad pair, and only to that."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.word_problems import NATALIA, TOKENIZER, swap_of, use_of
from tracking.pairs import rules
from tracking.pairs.equations import read_solution
from tracking.pairs.problems import WordProblem
from tracking.pairs.text import Dropped, Pair
from tracking.pairs.word_pairs import WORD_CONTRASTS, pair_of, word_pairs

# The solution


def objections(question: str, solution: str, answer: str) -> list[Callable[..., bool]]:
    problem, worked = WordProblem(question, solution, answer), read_solution(solution)
    return [objects for objects in rules.SOLUTION_RULES.values() if objects(problem, worked)]


@pytest.mark.parametrize(
    ("question", "solution", "answer", "objecting"),
    [
        (NATALIA.question, NATALIA.solution, "72", []),
        ("48 and 9.", "48+9=58", "58", [rules.does_not_hold]),
        ("48 and 9.", "48+9=57", "58", [rules.ends_elsewhere]),
        ("48 and 9.", "48+9=57", "57 cm", [rules.ends_elsewhere]),
        ("48 and 9.", "Add them.", "57", [rules.ends_elsewhere]),
        ("48 and 9.", "48+7=55", "55", [rules.from_nowhere]),
    ],
)
def test_a_solution_is_followed_only_where_it_holds_ends_and_is_explained(
    question, solution, answer, objecting
):
    assert objections(question, solution, answer) == objecting


@pytest.mark.parametrize(
    ("question", "solution", "explained"),
    [
        ("He pays for 48 jars.", "4*9=<<4*9=36>>36. 48+36=<<48+36=84>>84", False),
        ("48 jars of 4 kinds of 9.", "4*9=<<4*9=36>>36. 48+36=<<48+36=84>>84", True),
        ("48 jars in two weeks.", "48/(2*7)", True),
        ("48 jars in two weeks.", "48/14", False),
        ("Clips for 48.", "72 in all, as 48/2=<<48/2=24>>24, 48+24=<<48+24=72>>72", False),
    ],
)
def test_a_number_is_explained_by_the_question_its_words_or_a_result_before(
    question, solution, explained
):
    worked = read_solution(solution)
    assert rules.from_nowhere(WordProblem(question, solution, ""), worked) is not explained


# The number


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
        ("1 apple", []),
        ("the first.\n48 of them", ["48"]),
    ],
)
def test_only_numbers_that_are_their_digits_are_changed(question, left):
    used = " + ".join(number.text.replace(",", "") for number in rules.numbers(question))
    texts = [number.text for number in rules.numbers(question)]
    uses = [use_of(question, f"{used} + 0 = 0", text) for text in texts]
    kept = [use.number.text for use in uses if not rules.objection(rules.NUMBER_RULES, use)]
    assert kept == left


# The change

HALVES = "48/2=<<48/2=24>>24. 48+24=<<48+24=72>>72"


@pytest.mark.parametrize(
    ("question", "solution", "change", "objecting"),
    [
        ("48, and half.", HALVES, ("48", "46"), None),
        ("48, and half.", HALVES, ("48", "47"), rules.does_not_come_out),
        # Every equation counts, not only the first: 62.5 goats.
        (
            "24 and 26, in halves.",
            "24+26=<<24+26=50>>50. 50/2=<<50/2=25>>25",
            ("24", "23"),
            rules.does_not_come_out,
        ),
        ("8 of 40 went.", "40-8=<<40-8=32>>32", ("40", "42"), None),
        ("3 of 8 eat.", "8+8-3=<<8+8-3=13>>13", ("3", "9"), rules.changes_order),
        ("30 and 46, and half.", "30+46=<<30+46=76>>76", ("30", "36"), None),
        ("30 and 36.", "30+36=<<30+36=66>>66", ("36", "30"), rules.is_known),
        ("20-5, and 12.", "20-5=<<20-5=15>>15. 12+15=<<12+15=27>>27", ("12", "15"), rules.is_known),
        (
            "16 cows, 8 of his 24 sheep.",
            "16/2=<<16/2=8>>8. 24-8=<<24-8=16>>16. 16+8=<<16+8=24>>24",
            ("16", "18"),
            rules.has_two_sources,
        ),
        (
            "54 at 6 each, and 80.",
            "54/6=<<54/6=9>>9. 80-9=<<80-9=71>>71",
            ("6", "9"),
            rules.is_known,
        ),
        (
            "90 of 5 for 12.",
            "90/5=<<90/5=18>>18. 18-5=<<18-5=13>>13",
            ("90", "60"),
            rules.result_is_given,
        ),
    ],
)
def test_a_change_leaves_a_question_that_people_ask(question, solution, change, objecting):
    swap = swap_of(question, solution, *change)
    assert next((rule for rule in rules.CHANGE_RULES.values() if rule(swap)), None) is objecting


# The pair of an operand


@pytest.mark.parametrize(
    ("question", "solution", "change", "objecting"),
    [
        ("He has 48.", "He has 48 + 12 = 60.", ("48", "46"), None),
        ("He has 48 boxes.", "His boxes 48 + 2 = 50.", ("48", "38"), rules.is_unsettled),
        ("He has 48.", "2 + 48 = 50.", ("48", "38"), None),
        ("He pays $48.", "He pays $2 x $48 = $96.", ("48", "38"), None),
        ("He pays 48.", "2 \\times 48 = 96.", ("48", "38"), None),
        ("He has a box of 48.", "In a box 48 + 2 = 50.", ("48", "38"), rules.is_unsettled),
        ("He has 48 and 45.", "48 + 45 = 93.", ("48", "46"), rules.begins_alike),
        ("Cake 10, tea 6.", "Both cost 10 + 6 = 16.", ("10", "14"), rules.begins_alike),
        ("48, and 9 + 32.", "9 + 32 = 41. All: 48 + 41 = 89", ("48", "46"), rules.begins_alike),
    ],
)
def test_what_stands_before_an_operand_settles_which_number_comes(
    question, solution, change, objecting
):
    pair = pair_of("operand", swap_of(question, solution, *change), TOKENIZER, None)
    reasons = {rule: reason for reason, rule in rules.PAIR_RULES["operand"].items()}
    assert isinstance(pair, Pair) if objecting is None else pair == Dropped(reasons[objecting])


@pytest.mark.parametrize(
    ("question", "solution", "change", "copied"),
    [
        ("50 and 20.", "50 + 20 = 70.", ("50", "54"), True),
        ("55 and 27.", "55 + 27 = 82.", ("55", "54"), False),
        ("9 for 11.", "11 * 9 = 99.", ("9", "4"), True),
    ],
)
def test_a_result_whose_target_is_the_changed_digit_could_be_copied(
    question, solution, change, copied
):
    pair = pair_of("result", swap_of(question, solution, *change), TOKENIZER, None)
    assert isinstance(pair, Dropped) is copied


def test_a_number_that_the_solution_also_has_in_words_is_not_changed():
    in_words, counted = "The eight gifts: 8*3=24", "The gifts: 8*3=24"
    objecting = [
        rules.is_in_words(use_of("Sam wraps 8 gifts of 3.", solution, "8"))
        for solution in (in_words, counted)
    ]
    assert objecting == [True, False]


# Of whole pairs


@given(
    st.lists(st.integers(2, 99), min_size=3, max_size=3, unique=True),
    st.sampled_from(["+-", "*+", "*-", "-*", "++"]),
    st.integers(0, 9),
)
def test_both_questions_of_a_pair_work_out_and_give_no_changed_result(terms, signs, seed):
    first = eval(f"{terms[0]}{signs[0]}{terms[1]}")
    last = eval(f"{first}{signs[1]}{terms[2]}")
    worked = f"{terms[0]} {signs[0]} {terms[1]} = {first}. {first} {signs[1]} {terms[2]} = {last}"
    problem = WordProblem("Of {} and {} and {}, how many?".format(*terms), worked, str(last))
    for contrast in WORD_CONTRASTS:
        pair = next(word_pairs(contrast, [problem], TOKENIZER, seed=seed))
        if isinstance(pair, Dropped):
            continue
        given = [int(value) for value in rules.values(pair.text[1].split("\n")[0])]
        middle = eval(f"{given[0]}{signs[0]}{given[1]}")
        after = eval(f"{middle}{signs[1]}{given[2]}")
        assert min(middle, after) > 0
        assert ordered(given) == ordered(terms)
        changed = {first, middle} if first != middle else set()
        assert (changed | {last, after}).isdisjoint({*given, *terms})


def ordered(terms: list[int]) -> list[int]:
    """The places of the terms by size."""
    return sorted(range(len(terms)), key=terms.__getitem__)
