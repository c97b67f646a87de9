"""The digit swap: right where it makes a pair, and silent where it could be wrong."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tests.builders.paths import SHARED
from tests.builders.word_problems import (
    NATALIA,
    TOKENIZER,
    needs_shared,
    real_problems,
)
from tracking.errors import BadInput
from tracking.pairs.equations import evaluate
from tracking.pairs.numbers import numbers
from tracking.pairs.problems import WordProblem
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.pairs.text import Dropped, Pair, choose
from tracking.pairs.word_pairs import WORD_CONTRASTS, word_pairs


def pair_of(contrast: str, problem: WordProblem, **options) -> Pair:
    pair = next(word_pairs(contrast, [problem], TOKENIZER, **options))
    assert isinstance(pair, Pair), pair
    return pair


def reason_of(contrast: str, problem: WordProblem) -> str:
    dropped = next(word_pairs(contrast, [problem], TOKENIZER))
    assert isinstance(dropped, Dropped), dropped
    return dropped.reason


def changed_number(text: str) -> int:
    return int(numbers(text)[0].value)


# The contrasts


def test_the_operand_is_asked_for_where_the_solution_first_writes_it():
    pair = pair_of("operand", NATALIA)
    clean, corrupted = pair.text
    new = changed_number(corrupted)
    assert clean == f"{NATALIA.question}\nShe sold 4⟦8⟧"
    assert corrupted.endswith(f"She sold 4⟦{new % 10}⟧") and new // 10 == 4 and new % 2 == 0


@pytest.mark.parametrize("seed", range(5))
def test_the_result_is_that_of_the_changed_equation(seed):
    clean, corrupted = pair_of("result", NATALIA, seed=seed).text
    new = changed_number(corrupted)
    given, target = corrupted.rstrip("⟧").split("⟦")
    assert f"\nShe sold {new}/2 = " in given
    result = given.rpartition("= ")[2] + target
    assert str(new // 2).startswith(result) and new % 2 == 0 and new != 48
    assert clean.startswith(f"{NATALIA.question}\nShe sold 48/2 = ")


@pytest.mark.parametrize("seed", range(5))
def test_the_answer_is_worked_out_through_every_equation(seed):
    _, corrupted = pair_of("answer", NATALIA, seed=seed).text
    new = changed_number(corrupted)
    given, target = corrupted.rpartition("\nThe answer is ")[2].rstrip("⟧").split("⟦")
    assert str(new + new // 2).startswith(given + target)


@pytest.mark.parametrize(
    ("question", "solution", "reason"),
    [
        ("He has 48.", None, "no worked solution"),
        ("He has some.", "1+2=3", "a number of the solution comes from nowhere"),
        ("He has 48.", "Many.", "the answer is not the last equation's result"),
        ("One and two.", "1+2=3", "the solution uses no number of the question"),
    ],
)
def test_what_cannot_be_swapped_is_dropped_with_its_reason(question, solution, reason):
    assert reason_of("operand", WordProblem(question, solution, "3")) == reason


def test_thousands_separators_are_kept_or_left_out_as_the_text_has_them():
    worked = "80000 + 50,000 = <<80000+50000=130000>>130,000"
    problem = WordProblem("She pays 80,000 and then 50,000.", worked, "130000")
    for seed in range(4):
        _, corrupted = pair_of("result", problem, seed=seed).text
        question, solution = corrupted.split("\n")
        in_question = [number.value for number in numbers(question)]
        in_solution = [number.value for number in numbers(solution.partition("=")[0])]
        assert in_question == in_solution and "," not in solution.partition(" + ")[0]


def test_a_models_own_solutions_take_the_place_of_the_datas():
    unsolved = WordProblem(NATALIA.question, None, "72")
    pair = pair_of("result", unsolved, solutions=["Half of it: 48 / 2 = 24. In all 48 + 24 = 72."])
    assert pair.text[0].startswith(f"{NATALIA.question}\nHalf of it: 48 / 2 = ")
    with pytest.raises(BadInput, match="0 solutions for 1"):
        next(word_pairs("result", [unsolved], TOKENIZER, solutions=[]))


def test_an_unknown_kind_is_refused():
    with pytest.raises(BadInput, match="operand, result, answer"):
        next(word_pairs("cue", [NATALIA], TOKENIZER))


@given(st.integers(2, 999), st.integers(2, 99), st.sampled_from("+-*"), st.integers(0, 9))
def test_every_pair_of_a_made_problem_has_the_right_targets(first, second, sign, seed):
    result = evaluate(f"{first}{sign}{second}")
    assert result is not None
    worked = f"{first} {sign} {second} = {result}"
    problem = WordProblem(f"Given {first} and {second}?", worked, str(result))
    for contrast in WORD_CONTRASTS:
        pair = next(word_pairs(contrast, [problem], TOKENIZER, seed=seed))
        if isinstance(pair, Dropped):
            continue
        question, turn = pair.text[1].split("\n")
        left, right = (number.value for number in numbers(question))
        whole = f"{left} {sign} {right} = {evaluate(f'{left}{sign}{right}')}"
        answered = f"The answer is {whole.rpartition(' ')[2]}"
        expected = answered if contrast == "answer" else whole
        assert expected.startswith(turn.replace("⟦", "").replace("⟧", ""))
        assert len(pair.clean) == len(pair.corrupted)
        asked = pair.text[0].split("\n")[0]
        assert sum(a != b for a, b in zip(asked, question, strict=True)) == 1


def test_pairs_are_the_same_in_every_process_and_beside_any_other_problem():
    corrupted = [pair_of(contrast, NATALIA, seed=3).text[1] for contrast in WORD_CONTRASTS]
    # Written down once: a process with another hash seed must come to the same.
    assert [(changed_number(text), text.rpartition("\n")[2]) for text in corrupted] == [
        (42, "She sold 4⟦2⟧"),
        (38, "She sold 38/2 = ⟦1⟧"),
        (38, "The answer is ⟦5⟧"),
    ]
    for contrast in WORD_CONTRASTS:
        other = replace(NATALIA, question="Of 64 clips?")
        assert list(word_pairs(contrast, [other, NATALIA], TOKENIZER, seed=3))[1] == pair_of(
            contrast, NATALIA, seed=3
        )


# Real data


@pytest.fixture(scope="module")
def qwen():
    return AutoTokenizer.from_pretrained(SHARED / "qwen-tokenizer")


@needs_shared
@pytest.mark.parametrize("contrast", WORD_CONTRASTS)
@pytest.mark.parametrize("name", ["gsm8k_train", "svamp"])
def test_real_sets_give_enough_pairs_of_every_contrast(qwen, name, contrast):
    pairs = choose(word_pairs(contrast, real_problems(name, 1000), qwen), contrast, 128, 128)
    pairs = PromptPairs.padded(pairs, qwen.pad_token_id)
    assert pairs.labels is not None
    # Digits are tokens of their own here, so that a pair's target is one digit.
    targets = [qwen.decode([token]) for token in pairs.labels.flatten().tolist()]
    assert len(pairs) == 128 and all(target.isdigit() for target in targets)
    assert (pairs.clean != pairs.corrupted).any(dim=1).all()
