"""Texts are the models' own completions of the run's own problems."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.builders.two_models import write_completions
from tracking import BadInput
from train import config
from train.comparison.texts import drawn_texts, problems_of
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
    asked = problems_of(tmp_path, 10)
    assert sorted(one.question for one in asked.problems) == ["1+1", "2+2", "3+3"]
    assert asked.system_prompt == "sum"
    fewer = problems_of(tmp_path, 2)
    assert len(fewer.problems) == 2 and fewer == problems_of(tmp_path, 2)


def test_a_run_without_completions_is_asked_what_it_was_trained_on(
    small_words: Callable[..., list[str]], tmp_path: Path
) -> None:
    run, data = tmp_path / "run", tmp_path / "rows.jsonl"
    for words in ({}, {"system_prompt": "Add."}):
        job = config.load("sft", small_words("sft", run, dataset_name=data, **words))
        questions = [f"{n} and {n}?" for n in range(5)]
        rows = [{"question": one, "answer": "2+2 = <<2+2=4>>4\n#### 4"} for one in questions]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        config.write(job)
        asked = problems_of(run, 10)
        assert sorted(one.question for one in asked.problems) == questions
        assert asked.system_prompt == words.get("system_prompt")
        assert problems_of(run, 3) == problems_of(run, 3) != asked
    data.unlink()
    with pytest.raises(BadInput, match=r"no data to ask again: data set .* no such file"):
        problems_of(run, 3)


def test_problems_that_cannot_be_asked_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no data to ask again: .* is no run of"):
        problems_of(tmp_path, 2)
    log(tmp_path / "text", ["1+1"])
    with pytest.raises(BadInput, match="no chats of one question, but texts"):
        problems_of(tmp_path / "text", 2)
    log(tmp_path / "turns", [[{"role": "user", "content": "1+1"}] * 2])
    with pytest.raises(BadInput, match=r"but \['user', 'user'\]"):
        problems_of(tmp_path / "turns", 2)
    write_completions(tmp_path / "two", ["1+1"], step=1, system="a")
    write_completions(tmp_path / "two", ["2+2"], step=2, system="b")
    with pytest.raises(BadInput, match="2 different system prompts"):
        problems_of(tmp_path / "two", 2)


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
