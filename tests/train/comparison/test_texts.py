"""Texts are the models' own completions of the run's own problems."""

import copy
from pathlib import Path

import pandas as pd
import pytest

from tests.builders.two_models import write_completions
from tracking import BadInput
from train.comparison.texts import drawn_texts, logged_problems
from train.evals.problems import Problem
from train.evals.sampling import Sampling
from train.tiny.tokenizer import tokenizer


def log(run: Path, prompts: list) -> None:
    rows = [{"step": 1, "prompt": one, "completion": "", "advantage": 0.0} for one in prompts]
    (run / "completions").mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(run / "completions" / "completions_00001.parquet")


def test_problems_are_those_of_the_run_each_once(tmp_path: Path) -> None:
    write_completions(tmp_path, ["1+1", "1+1", "2+2"], step=1, system="sum")
    write_completions(tmp_path, ["3+3", "2+2"], step=2, system="sum")
    asked = logged_problems(tmp_path, 10)
    assert sorted(one.question for one in asked.problems) == ["1+1", "2+2", "3+3"]
    assert asked.system_prompt == "sum"
    fewer = logged_problems(tmp_path, 2)
    assert len(fewer.problems) == 2 and fewer == logged_problems(tmp_path, 2)


def test_problems_that_cannot_be_asked_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no completions: train it with log_completions"):
        logged_problems(tmp_path, 2)
    log(tmp_path / "text", ["1+1"])
    with pytest.raises(BadInput, match="no chats of one question, but texts"):
        logged_problems(tmp_path / "text", 2)
    log(tmp_path / "turns", [[{"role": "user", "content": "1+1"}] * 2])
    with pytest.raises(BadInput, match=r"but \['user', 'user'\]"):
        logged_problems(tmp_path / "turns", 2)
    write_completions(tmp_path / "two", ["1+1"], step=1, system="a")
    write_completions(tmp_path / "two", ["2+2"], step=2, system="b")
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
    assert {one.writer for one in both} == {"base and run"}
    assert [one.completion_ids for one in both] == [one.completion_ids for one in alone]
    assert len(alone) == 6
    for one in alone:
        assert one.prompt in str(words.decode(list(one.prompt_ids)))
        assert 0 < len(one.completion_ids) <= 8
