"""The digit swap: right where it makes a pair, and silent where it could be wrong."""

import json
from dataclasses import replace
from fractions import Fraction
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from tests.builders.paths import SHARED
from tracking.errors import BadInput
from tracking.pairs.equations import evaluate, read_solution
from tracking.pairs.numbers import changeable, numbers, restyle
from tracking.pairs.problems import WordProblem, chat_prompt, read_problem
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.pairs.solutions import greedy_solutions
from tracking.pairs.text import Dropped, Pair, choose
from tracking.pairs.word_pairs import WORD_CONTRASTS, word_pairs

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real data at {SHARED}")

NATALIA = WordProblem(
    "Natalia sold clips to 48 of her friends in April, and half as many in May. How many?",
    "She sold 48/2 = <<48/2=24>>24 clips in May.\nIn all, 48+24 = <<48+24=72>>72 clips.",
    "72",
)


def character_tokenizer() -> PreTrainedTokenizerFast:
    characters = ["<pad>", "<unk>", *(chr(code) for code in (10, *range(32, 127)))]
    words = {character: index for index, character in enumerate(characters)}
    core = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")  # type: ignore
    core.decoder = decoders.Fuse()  # type: ignore
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", unk_token="<unk>")


TOKENIZER = character_tokenizer()


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


# Reading rows


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            {"question": "Q 48?", "answer": "48/2 = <<48/2=24>>24\n#### 24"},
            WordProblem("Q 48?", "48/2 = <<48/2=24>>24", "24"),
        ),
        ({"problem": "Q?", "answer": 27.0, "question": "Q?"}, WordProblem("Q?", None, "27")),
        (
            {"problem": "Q?", "solution": "S", "answer": r"\frac{1}{2}"},
            WordProblem("Q?", "S", r"\frac{1}{2}"),
        ),
        (
            {
                "Body": "If 7 are red",
                "Question": "How many?",
                "Equation": "( ( 7.0 + 2.0 ) * 30.0 )",
                "Answer": 270.0,
            },
            WordProblem("If 7 are red, how many?", "The equation is (7 + 2) * 30 = 270", "270"),
        ),
    ],
)
def test_rows_of_all_sets_are_read(row, problem):
    assert read_problem(row) == problem


def test_an_unknown_row_is_refused_with_its_columns():
    with pytest.raises(BadInput, match="'prompt', 'completion'"):
        read_problem({"prompt": "Q?", "completion": "A"})


# Numbers and equations


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
    given, target = corrupted.rpartition("\n")[2].rstrip("⟧").split("⟦")
    assert str(new + new // 2).startswith(given + target)


def test_a_model_that_already_knows_the_later_result_is_not_paird():
    told = "She has 72, because 48/2 = <<48/2=24>>24 and 48+24 = <<48+24=72>>72."
    leaky = WordProblem(NATALIA.question, told, "72")
    assert reason_of("operand", leaky) == "a number of the solution comes from nowhere"


def test_a_value_with_two_sources_is_not_run_forward():
    problem = WordProblem(
        "He has 16 cows, sells 8 of his 24 sheep, and asks for the total.",
        "16/2=<<16/2=8>>8. 24-8=<<24-8=16>>16. 16+8=<<16+8=24>>24",
        "24",
    )
    assert reason_of("answer", problem) == "the changed number is also the result of an equation"


def test_a_number_hidden_in_the_solution_is_dropped():
    worked = "4 crates: 4*9=<<4*9=36>>36. 48+36=<<48+36=84>>84"
    hidden = WordProblem("He pays for 48 jars.", worked, "84")
    for contrast in WORD_CONTRASTS:
        assert reason_of(contrast, hidden) == "a number of the solution comes from nowhere"


@pytest.mark.parametrize(
    ("question", "solution", "reason"),
    [
        ("He has 48.", None, "no worked solution"),
        ("He has some.", "3+4=7", "no number of the question can be changed safely"),
        ("He has 48.", "Many.", "the changed number is not used in the solution"),
        ("He has 48 and 9.", "48+9=58", "an equation of the solution does not come out"),
        ("Of 3 cats", "3. Cats: 3+3=6", "the solution's number may not be the question's"),
    ],
)
def test_what_cannot_be_swapped_is_dropped_with_its_reason(question, solution, reason):
    assert reason_of("operand", WordProblem(question, solution, "1")) == reason


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
    pair = pair_of("result", unsolved, solutions=["Half of it: 48 / 2 = 24."])
    assert pair.text[0].startswith(f"{NATALIA.question}\nHalf of it: 48 / 2 = ")
    with pytest.raises(BadInput, match="0 solutions for 1"):
        next(word_pairs("result", [unsolved], TOKENIZER, solutions=[]))


def test_an_unknown_kind_is_refused():
    with pytest.raises(BadInput, match="operand, result, answer"):
        next(word_pairs("cue", [NATALIA], TOKENIZER))


def test_without_a_chat_template_the_turn_is_the_next_line():
    assert chat_prompt(TOKENIZER, "Q?") == "Q?\n"
    assert chat_prompt(TOKENIZER, "Q?", "Be brief.") == "Be brief.\nQ?\n"


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
        expected = whole.rpartition(" ")[2] if contrast == "answer" else whole
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
        (38, "⟦5⟧"),
    ]
    for contrast in WORD_CONTRASTS:
        other = replace(NATALIA, question="Of 64 clips?")
        assert list(word_pairs(contrast, [other, NATALIA], TOKENIZER, seed=3))[1] == pair_of(
            contrast, NATALIA, seed=3
        )


# A model's own solutions


def tiny_model() -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(TOKENIZER),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=64,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def test_generation_leaves_model_and_random_numbers_as_they_were():
    model = tiny_model()
    model.train()
    model.lm_head.eval()
    state = torch.get_rng_state()
    solutions = greedy_solutions(model, TOKENIZER, ["1+1=", "20+30="], 5, batch_size=2)
    assert len(solutions) == 2
    assert torch.equal(state, torch.get_rng_state())
    assert model.training and model.model.layers[0].training and not model.lm_head.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_generation_is_the_same_whatever_the_batch():
    model, prompts = tiny_model(), ["1+1=", "20+30=", "4*4*4="]
    apart = greedy_solutions(model, TOKENIZER, prompts, 6, batch_size=1)
    assert greedy_solutions(model, TOKENIZER, prompts, 6, batch_size=2) == apart
    assert greedy_solutions(model, TOKENIZER, [], 6, batch_size=2) == []


# Real data


@pytest.fixture(scope="module")
def qwen():
    return AutoTokenizer.from_pretrained(SHARED / "qwen-tokenizer")


def real_problems(name: str, count: int) -> list[WordProblem]:
    with (SHARED / "data" / f"{name}.jsonl").open() as lines:
        return [read_problem(json.loads(line)) for line in islice(lines, count)]


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


@needs_shared
@pytest.mark.parametrize("name", ["math500", "aime24", "amc23", "gsm8k"])
def test_every_row_of_every_set_can_be_read(name):
    problems = real_problems(name, 2000)
    assert all(problem.question and problem.answer for problem in problems)
