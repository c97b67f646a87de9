"""Generators: what they draw, and what their scorers say."""

import json
import random

import pytest

from tracking import BadInput
from train.gym.generator import PLACES, Generator, Item, solves

rg = pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")
DIGITS = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}


def draw(name: str, purpose: str = "train", draws: int = 40, seed: int = 0) -> list[Item]:
    return [*Generator(name).draw(purpose, seed, draws)]


def test_the_splits_share_no_question_and_none_stands_twice() -> None:
    sums = Generator("chain_sum", DIGITS)
    train, test = ([item.question for item in sums.draw(split, 0, 3000)] for split in
                   ("train", "test"))  # fmt: skip
    assert len({*train, *test}) == len(train) + len(test) == 200  # a op b: all that there are
    assert 0.05 < len(test) / 200 < 0.2
    again = {item.question for item in sums.draw("test", 7, 3000)}
    assert not again & {*train}  # whatever the seed


def test_items_of_neighbouring_seeds_are_other_items() -> None:
    sums = {(seed, purpose): {item.question for item in draw("chain_sum", purpose, seed=seed)}
            for seed in (42, 43) for purpose in ("train", "test", "pairs")}  # fmt: skip
    assert not sums[42, "train"] & sums[43, "train"]
    assert not sums[42, "train"] & sums[42, "pairs"]


def test_a_place_says_where_an_item_can_be_drawn_again() -> None:
    for item in draw("gsm_symbolic", draws=12):
        place = json.loads(item.place)
        data = rg.create_dataset(place["generator"], seed=place["seed"], size=place["size"])
        entry = data[place["index"]]
        assert (entry["question"], entry["answer"]) == (item.question, item.answer)
    with pytest.raises(BadInput, match="at most"):
        draw("chain_sum", draws=PLACES + 1)


def test_an_equation_is_right_by_plain_python() -> None:
    for name in ("chain_sum", "products"):
        for item in draw(name):
            left, _, right = item.worked.partition(" = ")
            assert eval(left) == int(right) and right == item.answer
    assert all(item.worked == item.answer for item in draw("gcd"))


@pytest.mark.parametrize(
    "name", ["chain_sum", "gsm_symbolic", "gcd", "prime_factorization", "fraction_simplification",
             "number_sorting", "tower_of_hanoi", "rush_hour", "power_function"]
)  # fmt: skip
def test_the_right_answer_solves_and_junk_never_does(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for item in draw(name, draws=6):
        assert solves(item.answer, item.place) or not item.answer
        for junk in ("", "?", "I do not know", "####", "[[x]]", "x/y", "-", "{", "\x00"):
            assert not solves(junk, item.place)
        assert not solves("Move disk 1 from Peg 9 to Peg 7", item.place)
    assert capfd.readouterr().out == ""


def test_half_right_and_the_wrong_sign_do_not_solve() -> None:
    item = next(item for item in draw("chain_sum") if len(item.answer) > 3)
    assert rg.get_score_answer_fn("chain_sum")(f"{item.answer} or so", {"answer": item.answer}) > 0
    assert not solves(item.answer[:-1], item.place)
    number = next(item for item in draw("gsm_symbolic") if item.answer.isdecimal())
    assert solves(f"2 of them, so the answer is {number.answer}", number.place)
    assert not solves(f"the answer is -{number.answer}", number.place)


def test_a_scorer_that_takes_anything_is_not_asked() -> None:
    assert draw("game_of_life_halting", draws=8) == []


def test_the_question_can_be_put_in_other_words() -> None:
    (item, *_) = Generator("chain_sum", DIGITS, "What is {expression}?").draw("train", 0, 9)
    assert item.question == f"What is {item.expression}?"
    assert solves(item.worked, item.place)
    for wording in ("What is {sum}?", "{", "{0}"):
        with pytest.raises(BadInput, match=r"cannot be filled in.*\{expression\}"):
            next(Generator("chain_sum", DIGITS, wording).draw("train", 0, 9))
    with pytest.raises(BadInput, match="different problems in the same words"):
        list(Generator("chain_sum", DIGITS, "What is it?").draw("train", 0, 9))


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("chain_sums", {}, "no generator 'chain_sums'; did you mean chain_sum or"),
        ("zzzzzz", {}, "no generator 'zzzzzz'$"),
        ("chain_sum", {"terms": 2}, "no parameter 'terms'; it has min_terms, max_terms"),
        ("chain_sum", {"min_terms": 0}, "min_terms must be positive"),
        ("chain_sum", {"min_terms": "2"}, "min_terms is '2'; it takes int"),
        ("chain_sum", {"allow_negation": 1}, "allow_negation is 1; it takes bool"),
        ("chain_sum", {"size": 2}, "size is not set there; use dataset_size"),
        ("chain_sum", {"seed": 2}, "use seed"),
        ("composite", {}, "Must specify at least one dataset"),
    ],
)
def test_a_mistake_is_one_line(name: str, parameters: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message) as refused:
        Generator(name, parameters)
    assert "\n" not in str(refused.value)


def test_a_generator_that_hangs_on_hashes_wants_them_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    with pytest.raises(BadInput, match="set PYTHONHASHSEED=0"):
        Generator("word_ladder")
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    assert Generator("word_ladder").name == "word_ladder"


def test_drawing_leaves_pythons_random_state_alone() -> None:
    before = random.getstate()
    draw("chain_sum")
    assert random.getstate() == before
