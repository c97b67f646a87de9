from dataclasses import replace

import pytest

from tests.builders.labelled import JUDGED, labelled_responses, outcome
from train.failures.labels import LABELS, Response, failures, loops
from train.tiny.task import solution

RESPONSES = labelled_responses()
RIGHT = Response(r"2 + 3 = 5. The answer is \boxed{5}.", "5", True, False, 20, "boxed")
TINY = Response("3+5=8;8*2=6;-6=4;####4", "4", True, False, 20, "digit", 10)


def labels_of(response: Response, **changes) -> set[str]:
    return set(failures(replace(response, **changes), None))


@pytest.mark.parametrize("label", [label for label in JUDGED if label != "loop"])
def test_held_out_responses_are_labelled_as_by_hand(label: str) -> None:
    figures = outcome(label, [each for each in RESPONSES if each.held_out(label)])
    assert figures.right >= 0.9 * figures.called and figures.right >= 0.9 * figures.there


def test_what_is_called_a_loop_is_one_and_four_of_five_are_called() -> None:
    figures = outcome("loop", RESPONSES)
    assert figures.right >= 0.9 * figures.called and figures.right >= 0.8 * figures.there
    unseen = outcome("loop", [each for each in RESPONSES if each.held_out("loop")])
    assert unseen.right >= 0.9 * unseen.called and unseen.right >= 0.8 * unseen.there


def test_the_set_is_large_and_knows_every_label() -> None:
    assert len(RESPONSES) >= 250
    assert all(outcome(label, RESPONSES).there >= 10 for label in JUDGED)
    assert {name for each in RESPONSES for name in each.labels} == set(JUDGED)


@pytest.mark.parametrize("response", [RIGHT, TINY])
def test_a_clean_response_has_no_label(response: Response) -> None:
    assert labels_of(response) == set()


def test_reference_solutions_of_the_tiny_task_have_no_label() -> None:
    for expression in ("3+5", "9*9-4", "7-8*3+1"):
        for cue in "+-":
            text = solution(expression, cue)
            assert labels_of(TINY, text=text, answer=text[-1]) == set()


def test_cut_off_is_what_sampling_says() -> None:
    assert labels_of(RIGHT, cut_off=True) == {"cut off"}


def test_long_is_beyond_twice_the_median_of_right_responses() -> None:
    assert failures(replace(RIGHT, length=40), 20) == set()
    assert failures(replace(RIGHT, length=41), 20) == {"long"}
    assert failures(replace(RIGHT, length=41), None) == set()


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", {"no answer"}),
        ("2+1=3;", {"no answer"}),
        ("2+1=3;####3.", {"wrong format"}),
        ("2+1=3;####3;####4", {"wrong format", "changed after it was right"}),
        ("2+1=4;####4", {"arithmetic slip"}),
    ],
)
def test_the_tiny_tasks_answer_is_one_digit_at_the_end(text: str, expected: set[str]) -> None:
    assert labels_of(TINY, text=text, answer="3", right=False) == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", {"no answer"}),
        (r"The answer is within \boxed{}.", {"no answer"}),
        ("The answer is 5.", {"wrong format"}),
        ("So there are 5 apples.", {"wrong format"}),
        ("#### 5", {"wrong format"}),
        (r"It is \boxed{\frac{1}{2}}", set()),
        (r"<think>\boxed{5}</think>It is 7.", {"wrong format", "changed after it was right"}),
        (r"\boxed{5}. No, \boxed{6}.", {"changed after it was right"}),
        (r"\boxed{6}. No, \boxed{5}.", set()),
        (r"The answer is 5 apples. Wait, the answer is \boxed{6}.", {"changed after it was right"}),
        (r"2 + 3 = 5. The answer is \boxed{6}.", set()),
    ],
)
def test_answers_are_read_as_they_are_stated(text: str, expected: set[str]) -> None:
    assert labels_of(RIGHT, text=text, right=False) == expected


def test_a_number_in_a_calculation_that_was_cut_off_is_no_answer() -> None:
    assert labels_of(RIGHT, text="First, 2 + 3 = 5 and", cut_off=True) == {"cut off", "no answer"}


def test_without_a_form_to_keep_none_is_wrong() -> None:
    assert labels_of(RIGHT, text="5", format="any") == set()


@pytest.mark.parametrize(
    "text, expected",
    [
        ("ellipse", set()),
        ("It is a circle. So the answer is an ellipse.", set()),
        ("  ", {"no answer"}),
        ("The answer is ellipse. No, the answer is circle.", {"changed after it was right"}),
    ],
)
def test_an_answer_may_be_no_number(text: str, expected: set[str]) -> None:
    assert labels_of(RIGHT, text=text, answer="ellipse", format="any", right=False) == expected


def test_what_was_graded_right_was_not_changed() -> None:
    assert labels_of(RIGHT, text=r"The answer is 5. \boxed{5.0 cm or 6}", right=True) == set()


def test_a_passage_again_and_again_is_a_loop_also_one_that_counts() -> None:
    start = "To find the sum we go step by step and add what was asked. "
    again = "Now we add one more apple to the bowl and look at it again. "
    counting = [f"Now we add apple number {i} to the bowl and look at it again. " for i in range(9)]
    assert loops(start + again * 9) and loops(start + "".join(counting))
    assert not loops(start + again * 2) and not loops(start * 2) and not loops("")


def test_labels_come_from_the_list_of_all() -> None:
    assert set().union(*(each.called for each in RESPONSES)) <= set(LABELS)
