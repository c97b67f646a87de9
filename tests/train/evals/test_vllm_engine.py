"""Responses by vLLM: what it is asked for, and what becomes of its answer; vLLM is a stand-in."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from tests.builders import vllm_stand_in
from tracking import BadInput
from train.checkpoints.subject import subject
from train.commands.eval import main
from train.evals.benchmarks import benchmarks
from train.evals.responses import read
from train.evals.sampling import Sampling, every_sample, respond
from train.evals.vllm_engine import check_vllm, respond_by_vllm
from train.tiny.base import base_model

GREEDY = Sampling(temperature=0, max_new_tokens=36, batch_size=2)
PROBLEMS = benchmarks(["tiny-easy"], limit=3)[0].problems
WORDS = ["tiny", "--benchmarks", "tiny-easy", "--limit", "2", "--samples", "1", "--use_vllm"]


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", vllm_stand_in)


def by_vllm(sampling: Sampling, samples: int) -> list:
    tiny = subject("tiny")
    requests = every_sample(PROBLEMS, samples, sampling)
    batches = respond_by_vllm(tiny.model, tiny.tokenizer, requests, sampling)
    return [each for batch in batches for each in batch]


def test_greedy_responses_are_those_of_transformers(vllm: None) -> None:
    model = AutoModelForCausalLM.from_pretrained(base_model())
    for sampling, cut_off in ((GREEDY, False), (replace(GREEDY, max_new_tokens=4), True)):
        requests = every_sample(PROBLEMS, 1, sampling)
        batches = respond(model, subject("tiny").tokenizer, requests, sampling)
        ours = [each for batch in batches for each in batch]
        assert by_vllm(sampling, 1) == ours
        assert {each.cut_off for each in ours} == {cut_off}


def test_a_response_belongs_to_its_seed_and_sample_in_any_batch(vllm: None) -> None:
    drawn = Sampling(temperature=1.0, max_new_tokens=6, batch_size=4)
    one = by_vllm(drawn, 2)
    assert by_vllm(replace(drawn, batch_size=5), 2) == one
    assert len({each.text for each in one}) > len(PROBLEMS)
    assert by_vllm(replace(drawn, seed=1), 2) != one


def test_its_rows_are_kept_apart_from_those_of_transformers(vllm: None, tmp_path: Path) -> None:
    main([*WORDS, "--output_dir", str(tmp_path)])
    assert len(read(tmp_path)) == 2
    assert read(tmp_path)["right"].notna().all()
    with pytest.raises(BadInput, match="holds other responses: use_vllm was True, is None"):
        main([*WORDS[:-1], "--output_dir", str(tmp_path)])


def test_without_vllm_it_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"--use_vllm: vLLM is not installed; pip install"):
        main([*WORDS, "--output_dir", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_an_adapter_is_refused(vllm: None) -> None:
    model = subject("tiny").model
    check_vllm(model)
    with pytest.raises(BadInput, match="is an adapter; merge it into its base first"):
        check_vllm(replace(model, base=model.source))


@pytest.mark.parametrize(("words", "message"), [(["0"], "is 0"), (["2"], "is 2; 1 or more, with")])
def test_gpus_are_for_vllm(words: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=f"--vllm_tensor_parallel_size {message}"):
        main([*WORDS[:-1], "--vllm_tensor_parallel_size", *words])
