"""Responses are kept as they come: a job that is ended goes on, and does nothing twice."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from transformers import AutoModelForCausalLM

from tracking import BadInput
from train.evals.benchmarks import benchmarks
from train.evals.grading import Grader
from train.evals.responses import KEY, Responses, evaluate, lacking, read
from train.evals.sampling import Request, Sampling, every_sample
from train.tiny.base import base_model
from train.tiny.task import answer_of
from train.tiny.tokenizer import tokenizer

SAMPLING = Sampling(temperature=1.0, max_new_tokens=36, batch_size=8)
FACTS = {"model": "tiny", "weights": "0", **SAMPLING.facts}
EASY = benchmarks(["tiny-easy"], limit=6)
REQUESTS = every_sample(EASY[0].problems, 4, SAMPLING)


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(base_model())


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    grader = Grader(EASY)
    yield grader
    grader.close()


def run(folder: Path, model: Any, grader: Any, **more: Any) -> pd.DataFrame:
    arguments = {"requests": REQUESTS, "sampling": SAMPLING, **more}
    responses = Responses(folder, FACTS)
    return evaluate(model, tokenizer(), responses=responses, grader=grader, **arguments)


def test_every_request_is_a_row(tmp_path: Path, model: Any, grader: Grader) -> None:
    rows = run(tmp_path, model, grader)
    assert [tuple(row) for row in rows[KEY].to_numpy()] == [request.key for request in REQUESTS]
    for request, (_, row) in zip(REQUESTS, rows.iterrows(), strict=True):
        assert (row["answer"], row["seed"]) == (request.problem.answer, 0)
        assert row["prompt"] == f"<|user|>{request.problem.question}<|assistant|>"
        assert row["right"] == (answer_of(row["response"]) == request.problem.answer)
        assert row["extracted"] == answer_of(row["response"])
    assert len(list(tmp_path.glob("responses/*.parquet"))) == 3


class EndedError(Exception):
    pass


def test_a_job_that_was_ended_goes_on_as_if_it_had_not(
    tmp_path: Path, model: Any, grader: Grader
) -> None:
    def end(count: int) -> None:
        raise EndedError

    with pytest.raises(EndedError):
        run(tmp_path / "ended", model, grader, done=end)
    assert len(read(tmp_path / "ended")) == 8
    counts: list[int] = []
    other = Sampling(temperature=1.0, max_new_tokens=36, batch_size=5)
    resumed = run(tmp_path / "ended", model, grader, sampling=other, done=counts.append)
    assert counts == [5, 5, 5, 1]
    pd.testing.assert_frame_equal(resumed, run(tmp_path / "whole", model, grader))


def test_nothing_is_generated_or_graded_twice(tmp_path: Path, model: Any, grader: Grader) -> None:
    before = run(tmp_path, model, grader)
    assert lacking(REQUESTS, Responses(tmp_path, FACTS)) == []
    pd.testing.assert_frame_equal(run(tmp_path, None, None), before)


def test_more_samples_are_added_and_fewer_are_a_part(
    tmp_path: Path, model: Any, grader: Grader
) -> None:
    one = run(tmp_path, model, grader, requests=REQUESTS[::4])
    four = run(tmp_path, model, grader)
    again = run(tmp_path, model, grader, requests=REQUESTS[::4])
    assert (len(one), len(four)) == (6, 24)
    pd.testing.assert_frame_equal(one, again)


def test_conditions_are_told_apart(tmp_path: Path, model: Any, grader: Grader) -> None:
    off = [Request(request.problem, request.sample, "off") for request in REQUESTS]
    rows = run(tmp_path, model, grader, requests=[*REQUESTS[:4], *off[:4]])
    assert list(rows["condition"]) == [""] * 4 + ["off"] * 4


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"temperature": 0.5}, "temperature was 1.0, is 0.5; choose another --output_dir"),
        ({"weights": "1", "model": "other"}, "model was 'tiny', is 'other'"),
        ({"system_prompt": "Think."}, "system_prompt was None, is 'Think.'"),
    ],
)
def test_a_folder_of_other_responses_is_refused(tmp_path: Path, facts: dict, message: str) -> None:
    Responses(tmp_path, FACTS)
    Responses(tmp_path, {**FACTS, "model": "moved"})
    with pytest.raises(BadInput, match=message):
        Responses(tmp_path, {**FACTS, **facts})


def test_a_damaged_folder_is_refused_in_one_line(
    tmp_path: Path, model: Any, grader: Grader
) -> None:
    run(tmp_path, model, grader, requests=REQUESTS[:1])
    (tmp_path / "settings.json").rename(tmp_path / "gone.json")
    with pytest.raises(BadInput, match="has responses but no settings"):
        Responses(tmp_path, FACTS)
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(BadInput, match="cannot be read"):
        Responses(tmp_path, FACTS)
    (tmp_path / "responses" / "part-000000.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadInput, match="responses cannot be read"):
        read(tmp_path)
