"""The tiny world keeps its laws, and its base is there whole or not at all.

pytest tests/train/tiny/test_base.py                  all of it
pytest tests/train/tiny/test_base.py -m "not slow"    without training the full base
"""

import os
import random
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from train.tiny import base, evaluation, task, tokenizer
from train.tiny.base import BaseSettings
from train.tiny.task import Problem

SMALL = BaseSettings(layers=1, heads=2, kv_heads=1, width=16, mlp_width=32, steps=3, batch_size=4)

CHARS = tokenizer.tokenizer()

expressions = st.from_regex(r"[0-9]([-+*][0-9]){1,3}", fullmatch=True)
cues = st.sampled_from("+-")
printable = st.text(st.characters(min_codepoint=32, max_codepoint=126))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPARKS_CACHE", str(tmp_path))
    return tmp_path


def left_to_right(expression: str, cue: str) -> int:
    """Python's own arithmetic, forced left to right by brackets and reduced only at the end."""
    bracketed = "(" * (len(expression) // 2) + expression[0]
    for start in range(1, len(expression), 2):
        bracketed += expression[start : start + 2] + ")"
    return eval(f"{cue}({bracketed})") % 10


def greedy(model: Any, problems: list[Problem], **kwargs: Any) -> evaluation.Evaluation:
    return evaluation.evaluate(model, CHARS, problems, temperature=0, **kwargs)


# The task


def test_the_worked_solution_is_the_one_documented():
    assert task.solution("3+5*2", "-") == "3+5=8;8*2=6;-6=4;####4"
    assert task.solution("3+5*2", "+") == "3+5=8;8*2=6;####6"
    assert Problem("3+5*2", "+").prompt == "+(3+5*2)"


@given(expressions, cues)
def test_the_answer_is_that_of_an_independent_evaluator(expression: str, cue: str):
    problem = Problem(expression, cue)
    assert int(problem.answer) == left_to_right(expression, cue)
    assert problem.cue_matters == (left_to_right(expression, "+") != left_to_right(expression, "-"))


@given(expressions, cues)
def test_every_step_of_a_solution_is_true_and_leads_to_the_next(expression: str, cue: str):
    *steps, final = task.solution(expression, cue).split(";")
    assert len(steps) == Problem(expression, cue).operations + (cue == "-")
    results = [step.split("=")[1] for step in steps]
    for step, result in zip(steps, results, strict=True):
        assert eval(step.split("=")[0]) % 10 == int(result)
    assert final == f"####{results[-1]}"


@given(expressions, cues)
def test_the_answer_is_read_back_from_a_solution(expression: str, cue: str):
    problem = Problem(expression, cue)
    assert task.answer_of(problem.solution) == problem.answer
    assert task.answer_of(problem.solution[-5:]) == problem.answer


@pytest.mark.parametrize(
    "text",
    ["", "4", "####", "####14", "####4;", "####4\n", " ####4 ", "####4####4", "#####4", "####٤"],
)
def test_no_answer_is_read_from_malformed_text(text: str):
    assert task.answer_of(text) is None


@pytest.mark.parametrize(
    ("expression", "cue"),
    [("", "+"), ("3", "+"), ("3/2", "+"), ("12+3", "-"), ("1+2", ""), ("1+2", "+-")],
)
def test_what_is_not_a_cued_chain_is_refused(expression: str, cue: str):
    with pytest.raises(ValueError, match="not a cued chain"):
        task.solution(expression, cue)


def test_the_splits_are_disjoint_and_an_eighth_is_held_out():
    train = {problem.expression for problem in task.problems("train", 4000, seed=0)}
    test = {problem.expression for problem in task.problems("test", 4000, seed=0)}
    assert not train & test
    chains = {
        f"{a}{op}{b}*{c}" for a in range(10) for op in "+-*" for b in range(10) for c in range(10)
    }
    share = sum(Problem(chain, "+").held_out for chain in chains) / len(chains)
    assert 0.1 < share < 0.15


def test_the_split_of_an_expression_never_changes():
    held_out = [digit for digit in range(10) if Problem(f"{digit}*{digit}-7", "+").held_out]
    assert held_out == [1, 7]


def test_problems_are_a_function_of_their_seed_alone():
    random.seed(0)
    first = task.problems("train", 50, seed=3)
    random.seed(1)
    assert task.problems("train", 50, seed=3) == first
    assert task.problems("train", 80, seed=3)[:50] == first
    assert task.problems("train", 50, seed=4) != first


def test_problems_have_one_to_three_operations_and_both_cues():
    drawn = task.problems("train", 2000, seed=0)
    for operations, share in {1: 1 / 3.4, 2: 1.2 / 3.4, 3: 1.2 / 3.4}.items():
        assert sum(item.operations == operations for item in drawn) == pytest.approx(
            2000 * share, rel=0.15
        )
    assert sum(item.cue == "-" for item in drawn) == pytest.approx(1000, rel=0.15)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split"):
        task.problems("validation", 1, seed=0)  # type: ignore[arg-type]


def test_the_test_set_holds_only_problems_whose_cue_matters():
    rows = task.dataset("test", 300, seed=0)
    assert set(rows.column_names) == {"prompt", "solution", "answer", "operations"}
    for row in rows.to_list():
        prompt = row["prompt"][0]["content"]
        problem = Problem(prompt[2:-1], prompt[0])
        assert problem.held_out and problem.cue_matters and problem.prompt == prompt
        assert (row["solution"], row["answer"]) == (problem.solution, problem.answer)
        assert row["operations"] == problem.operations


def test_sft_rows_are_the_worked_solutions_of_the_same_problems():
    rows, chats = task.dataset("train", 30, seed=5), task.sft_dataset("train", 30, seed=5)
    assert chats.column_names == ["messages"]
    for row, chat in zip(rows.to_list(), chats.to_list(), strict=True):
        reply = {"role": "assistant", "content": row["solution"]}
        assert chat["messages"] == [*row["prompt"], reply]


def test_the_reward_is_one_for_the_exact_answer_and_else_zero():
    completions = ["1+2=3;####3", "####4", "3", "####3 "]
    assert task.tiny_answer_reward(completions, answer=["3"] * 4) == [1.0, 0.0, 0.0, 0.0]
    chats = [[{"role": "assistant", "content": text}] for text in completions]
    assert task.tiny_answer_reward(completions=chats, answer=["3"] * 4, prompts=None) == [
        1,
        0,
        0,
        0,
    ]


# Tokenizer


@given(printable)
def test_text_survives_the_tokenizer(text: str):
    assert CHARS.decode(CHARS(text).input_ids) == text


def test_characters_and_marks_are_single_tokens():
    assert CHARS.tokenize("3+5=8;####8") == ["3", "+", "5", "=", "8", ";", "####", "8"]
    assert CHARS.tokenize("<|user|>+<|assistant|>") == ["<|user|>", "+", "<|assistant|>"]
    assert len(CHARS("<pad><eos>").input_ids) == 2
    assert CHARS.tokenize("1é2") == ["1", "2"]


def test_batches_are_padded_on_the_left():
    assert CHARS(["1", "123"], padding=True).attention_mask == [[0, 0, 1], [1, 1, 1]]


@given(expressions, cues)
def test_the_chat_template_marks_exactly_the_assistants_turn(expression: str, cue: str):
    problem = Problem(expression, cue)
    messages = task.chat(problem.prompt, problem.solution)
    encoded: Any = CHARS.apply_chat_template(
        messages, return_dict=True, return_assistant_tokens_mask=True
    )
    asked: Any = CHARS.apply_chat_template(
        messages[:1], add_generation_prompt=True, return_dict=True
    )
    start = len(asked.input_ids)
    assert CHARS.decode(asked.input_ids) == f"<|user|>{problem.prompt}<|assistant|>"
    assert encoded.input_ids[:start] == asked.input_ids
    assert CHARS.decode(encoded.input_ids[start:]) == problem.solution + "<eos>"
    assert encoded.assistant_masks == [0] * start + [1] * (len(encoded.input_ids) - start)


# Base model


def test_the_same_seed_makes_the_same_bytes_whatever_the_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def weights(place: str, threads: int, seed: int = 0) -> bytes:
        monkeypatch.setenv("SPARKS_CACHE", str(tmp_path / place))
        torch.set_num_threads(threads)
        folder = base.base_model(seed, settings=SMALL)
        assert torch.get_num_threads() == threads
        return (folder / "model.safetensors").read_bytes()

    before = torch.get_num_threads()
    try:
        first = weights("a", threads=1)
        assert weights("b", threads=2) == first
        assert weights("c", threads=1, seed=1) != first
    finally:
        torch.set_num_threads(before)


def test_making_a_base_neither_reads_nor_changes_the_random_state(cache: Path):
    def state() -> tuple[Any, ...]:
        return torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())

    torch.manual_seed(1)
    before = state()
    first = base.base_model(0, settings=SMALL).joinpath("model.safetensors").read_bytes()
    assert state() == before
    torch.manual_seed(2)
    other = cache / "other"
    base._save(base._pretrain(0, SMALL, progress=False), other)
    assert other.joinpath("model.safetensors").read_bytes() == first


def test_a_base_is_made_once_and_named_by_seed_and_settings(
    cache: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = base.base_model(7, settings=SMALL)
    assert folder.parent == cache and "seed7" in folder.name
    monkeypatch.setattr(base, "_pretrain", refuse)
    assert base.base_model(7, settings=SMALL) == folder
    for name, value in asdict(SMALL).items():
        changed = tuple(2 * x for x in value) if isinstance(value, tuple) else 2 * value
        other = BaseSettings(**{**asdict(SMALL), name: changed})
        assert base._fingerprint(other) != base._fingerprint(SMALL), name


def refuse(*_: Any) -> Any:
    raise AssertionError("a cached base was made again")


@pytest.mark.parametrize("where", ["_solution_loss", "_save", "_sync", "_publish"])
def test_an_interrupted_build_leaves_nothing_in_the_cache(
    cache: Path, monkeypatch: pytest.MonkeyPatch, where: str
):
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(base, where, interrupt)
        with pytest.raises(KeyboardInterrupt):
            base.base_model(settings=SMALL)
    assert list(cache.iterdir()) == []


def test_a_killed_builds_leftovers_are_not_taken_for_a_base(
    cache: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        # What a kill leaves: neither the rename nor the clearing up happens.
        patch.setattr(base, "_publish", lambda *_: None)
        patch.setattr(base.shutil, "rmtree", lambda *_, **__: None)
        assert not base.base_model(settings=SMALL).exists()
    assert any(cache.iterdir())
    assert (base.base_model(settings=SMALL) / "model.safetensors").is_file()


def test_two_processes_at_once_both_end_well(cache: Path, monkeypatch: pytest.MonkeyPatch):
    overtaken: list[Path] = []
    save: Callable[..., None] = base._save

    def overtake(model: Any, folder: Path) -> None:
        # Another process makes the same base while this one is still at work.
        monkeypatch.setattr(base, "_save", save)
        overtaken.append(base.base_model(settings=SMALL))
        save(model, folder)

    monkeypatch.setattr(base, "_save", overtake)
    assert [base.base_model(settings=SMALL)] == overtaken == list(cache.iterdir())


def test_a_failing_rename_is_reported(cache: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OSError, match="No space left"):
        base.base_model(settings=SMALL)


def test_progress_is_shown_on_a_terminal_only(cache: Path, capfd: pytest.CaptureFixture[str]):
    base.base_model(settings=SMALL)
    assert not sys.stderr.isatty()
    assert capfd.readouterr() == ("", "")


def test_the_base_loads_as_any_checkpoint_does(cache: Path):
    folder = base.base_model(settings=SMALL)
    chars = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert chars.chat_template == CHARS.chat_template and chars.padding_side == "left"
    assert chars.get_vocab() == CHARS.get_vocab()
    text = "<|user|>-(3+5*2)<|assistant|>3+5=8;####8<eos> a  B\n#####"
    assert chars.tokenize(text) == CHARS.tokenize(text)
    assert chars.decode(chars(text).input_ids) == text
    assert model.dtype == torch.float32 and model.config.vocab_size == len(chars)
    assert model.generation_config.eos_token_id == chars.eos_token_id
    assert model.generation_config.pad_token_id == chars.pad_token_id
    assert not {path.name[0] for path in cache.iterdir()} & {"."}


def test_the_embedded_model_is_small_and_has_24_heads():
    model = base._new_model(BaseSettings(), CHARS)
    assert model.num_parameters() < 1_000_000
    assert model.config.num_hidden_layers * model.config.num_attention_heads == 24


def test_the_base_reads_no_held_out_expression_and_mostly_not_the_cue():
    texts = base._texts(random.Random(0), BaseSettings(slip=0.0))
    obeyed = []
    for prompt, reply in (next(texts) for _ in range(3000)):
        problem = Problem(prompt[2:-1], prompt[0])
        assert not problem.held_out
        assert task.answer_of(reply) in (problem.answer, problem.other.answer)
        if problem.cue_matters:
            obeyed.append(task.answer_of(reply) == problem.answer)
    share = BaseSettings().cue_obeyed
    assert sum(obeyed) / len(obeyed) == pytest.approx(share + (1 - share) / 2, abs=0.04)


# Evaluation


class Scripted:
    """Stands for a model whose replies are given; `evaluate` sees their tokens."""

    device = torch.device("cpu")
    training = True

    def __init__(self, replies: list[str]) -> None:
        self.replies = replies

    def eval(self) -> None:
        self.training = False

    def train(self, mode: bool) -> None:
        self.training = mode

    def generate(self, input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        batch, self.replies = self.replies[: len(input_ids)], self.replies[len(input_ids) :]
        tokens = CHARS(
            [f"{text}<eos>" for text in batch],
            padding=True,
            return_tensors="pt",
            padding_side="right",
        )
        return torch.cat([input_ids, tokens.input_ids], dim=1)


@given(st.lists(st.sampled_from(["right", "flip", "wrong", "none"]), min_size=1, max_size=12))
@settings(deadline=None)
def test_evaluation_counts_what_was_answered(contrasts: list[str]):
    asked = task.problems("test", len(contrasts), seed=0, cue_matters=True)
    replies = [
        {
            "right": item.solution,
            "flip": item.other.solution,
            "wrong": next(f"####{d}" for d in "0123" if d not in (item.answer, item.other.answer)),
            "none": "3+5=",
        }[contrast]
        for contrast, item in zip(contrasts, asked, strict=True)
    ]
    model: Any = Scripted(replies)
    result = greedy(model, asked, batch_size=5)
    counted = (result.right, result.flip, result.malformed)
    assert counted == tuple(
        contrasts.count(contrast) / len(contrasts) for contrast in ("right", "flip", "none")
    )
    assert (
        result.count == len(contrasts) == sum(part.count for part in result.by_operations.values())
    )
    weighted = sum(part.count * part.right for part in result.by_operations.values())
    assert weighted == pytest.approx(result.right * len(contrasts))
    assert model.training


def test_evaluation_needs_problems():
    with pytest.raises(ValueError, match="no problems"):
        greedy(Scripted([]), [])


def test_evaluation_is_a_function_of_its_seed_and_leaves_no_trace():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = base._new_model(SMALL, CHARS).train()
        asked = task.problems("test", 20, seed=0)
        state = torch.get_rng_state()
        first = evaluation.evaluate(model, CHARS, asked, max_new_tokens=4, seed=1)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(5)
        assert evaluation.evaluate(model, CHARS, asked, max_new_tokens=4, seed=1) == first
        assert model.training


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_the_base_calculates_but_hardly_reads_the_cue(cache: Path):
    model = AutoModelForCausalLM.from_pretrained(base.base_model(0))
    asked = task.problems("test", 600, seed=7, cue_matters=True)
    result = evaluation.evaluate(model, CHARS, asked)
    assert 0.35 < result.right < 0.6
    assert 0.25 < result.flip < 0.5
    assert result.malformed < 0.03
