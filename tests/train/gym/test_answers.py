"""Answers in what models write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.gym.answers import extracted, is_number


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("8", "8"),
        ("3 + 5 = 8", "8"),
        ("The answer is -5.", "-5"),
        ("3 - 8 = \u22125", "-5"),
        ("8-5", "5"),
        ("(2)-5", "5"),
        ("it costs $1,234.50.", "1234.50"),
        ("<answer> 7 </answer>, or 8?", "7"),
        ("<think>9, no, 8</think>so 8", "8"),
        ("<think>it is 9</think>I do not know", ""),
        ("eight", ""),
        ("", ""),
    ],
)
def test_the_last_number_is_the_answer_to_a_sum(completion: str, answer: str) -> None:
    assert extracted(completion, "17") == answer


def test_another_answer_is_all_that_was_said_or_what_stands_in_tags() -> None:
    assert extracted(" A B\n", "B A") == "A B"
    assert extracted("so <answer>A</answer>, <answer>B A</answer>", "B A") == "B A"
    assert extracted("R L", None) == "R L"


@given(st.integers(-(10**9), 10**9), st.sampled_from(["", "It is ", "1 + 2 = ", "x = "]))
def test_any_number_is_found_again_behind_any_words(number: int, before: str) -> None:
    for written in (str(number), f"{number:,}"):
        assert is_number(written)
        assert extracted(f"{before}{written}.", "0") == str(number)
