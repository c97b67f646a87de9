"""Texts are the models' own completions of the run's own problems."""

import copy
from pathlib import Path

import pandas as pd
import pytest

from tracking import BadInput
from train.comparison.texts import drawn_texts, logged_problems
from train.evals.problems import Problem
from train.evals.sampling import Sampling
from train.tiny.tokenizer import tokenizer


def log(run: Path, step: int, prompts: list) -> None:
    rows = [{"step": step, "prompt": p, "completion": "", "advantage": 0.0} for p in prompts]
    (run / "completions").mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(run / "completions" / f"completions_{step:05d}.parquet")


def chat(question: str, system: str = "") -> list[dict[str, str]]:
    begin = [{"role": "system", "content": system}] if system else []
    return [*begin, {"role": "user", "content": question}]


def test_problems_are_those_of_the_run_each_once(tmp_path: Path) -> None:
    log(tmp_path, 1, [chat("1+1", "sum"), chat("1+1", "sum"), chat("2+2", "sum")])
    log(tmp_path, 2, [chat("3+3", "sum"), chat("2+2", "sum")])
    asked = logged_problems(tmp_path, 10)
    assert sorted(one.question for one in asked.problems) == ["1+1", "2+2", "3+3"]
    assert asked.system_prompt == "sum"
    fewer = logged_problems(tmp_path, 2)
    assert len(fewer.problems) == 2 and fewer == logged_problems(tmp_path, 2)


def test_problems_that_cannot_be_asked_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no completions: train it with log_completions"):
        logged_problems(tmp_path, 2)
    log(tmp_path / "text", 1, ["1+1"])
    with pytest.raises(BadInput, match="no chats of one question, but texts"):
        logged_problems(tmp_path / "text", 2)
    log(tmp_path / "turns", 1, [[*chat("1+1"), *chat("2+2")]])
    with pytest.raises(BadInput, match=r"but \['user', 'user'\]"):
        logged_problems(tmp_path / "turns", 2)
    log(tmp_path / "two", 1, [chat("1+1", "a"), chat("2+2", "b")])
    with pytest.raises(BadInput, match="2 different system prompts"):
        logged_problems(tmp_path / "two", 2)


def test_what_two_models_write_alike_stands_once(tiny_decoder) -> None:
    words = tokenizer()
    model = tiny_decoder(vocabulary=len(words))
    model.generation_config.eos_token_id = words.eos_token_id
    problems = [Problem("own", question, "") for question in ("1+2", "(3+4)*2", "5*6")]
    sampling = Sampling(temperature=1.0, max_new_tokens=8, batch_size=4)
    both = drawn_texts({"base": model, "run": copy.deepcopy(model)}, words, problems, sampling, 2)
    alone = drawn_texts({"base": model}, words, problems, sampling, 2)
    assert {one.writer for one in both.texts} == {"base and run"}
    assert both.left_out == 2 * alone.left_out
    assert [one.completion_ids for one in both.texts] == [one.completion_ids for one in alone.texts]
    assert len(alone.texts) + alone.left_out == 6
    for one in alone.texts:
        assert words.decode(one.prompt_ids).find(one.prompt) >= 0
        assert 0 < len(one.completion_ids) <= 8
