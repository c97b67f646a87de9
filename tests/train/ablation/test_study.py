"""Studies of a model in which it is known which head solves the problems."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from scripts.study_ablation import null, planted
from tracking import BadInput, Reference, intervene
from train.ablation.arms import Comparison
from train.ablation.modes import GRAFT, Mode
from train.ablation.study import Study
from train.ablation.targets import Target
from train.evals.benchmarks import benchmarks
from train.evals.responses import Responses
from train.evals.sampling import Request, Sampling, every_sample
from train.evals.sitting import sitting
from train.tiny.base import base_model
from train.tiny.tokenizer import tokenizer

SAMPLING = Sampling(temperature=0.0, max_new_tokens=36, batch_size=7)
EASY = benchmarks(["tiny-easy"], limit=5)
REQUESTS = every_sample(EASY[0].problems, 1, SAMPLING)
NODES = ("L1H3", "M2")


def loaded(seed: int = 0) -> Any:
    return AutoModelForCausalLM.from_pretrained(base_model(seed), dtype=torch.float32).eval()


def solve(folder: Path, words: list[str], requests: Sequence[Request] = REQUESTS) -> Any:
    model = loaded()
    modes = [GRAFT if word == "graft" else Mode.parse(word) for word in words]
    comparisons = [Comparison(Target("set", NODES), mode, {}) for mode in modes]
    responses = Responses(folder, SAMPLING.facts)
    with sitting(EASY, requests, responses) as (grader, done):
        study = Study(model, tokenizer(), requests, SAMPLING, responses, grader, done)
        return study.solve(comparisons).set_index(["condition", "problem"])["response"]


def greedy(model: Any) -> list[str]:
    words = tokenizer()
    out = []
    for request in REQUESTS:
        text = f"<|user|>{request.problem.question}<|assistant|>"
        ids = words(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        new = model.generate(ids, max_new_tokens=36, do_sample=False)[0, ids.shape[1] :]
        out.append(words.decode(new, skip_special_tokens=True))
    return out


def test_a_condition_is_the_model_under_its_intervention(tmp_path: Path) -> None:
    responses = solve(tmp_path, ["zero", "scale:0.5", "mean"])
    model = loaded()
    assert list(responses[""]) == greedy(model)
    for mode, factor in (("zero", 0.0), ("scale:0.5", 0.5)):
        with intervene(model, dict.fromkeys(NODES, factor)):
            assert list(responses[f"{mode} L1H3,M2"]) == greedy(model)
    texts = [
        f"<|user|>{request.problem.question}<|assistant|>{text}"
        for request, text in zip(REQUESTS, responses[""], strict=True)
    ]
    ids = tokenizer()(texts, padding=True, return_tensors="pt", add_special_tokens=False)
    reference = Reference.mean(model, ids["input_ids"], ids["attention_mask"])
    with intervene(model, NODES, "mean", reference):
        assert list(responses["mean L1H3,M2"]) == greedy(model)


def test_responses_that_are_there_are_not_made_again(tmp_path: Path) -> None:
    first = solve(tmp_path, ["zero"])
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    again = solve(tmp_path, ["zero", "resample"])
    assert all(path.stat().st_mtime_ns == at for path, at in files.items())
    assert again[["", "zero L1H3,M2"]].equals(first)
    assert "resample L1H3,M2" in again.index


def test_what_is_asked_later_has_the_same_reference(tmp_path: Path) -> None:
    first = tmp_path / "first"
    solve(first, ["resample"], REQUESTS[:2])
    longer, whole = solve(first, ["resample"]), solve(tmp_path / "whole", ["resample"])
    assert not longer.equals(whole), "the reference matters"
    shutil.rmtree(first / "responses")
    assert solve(first, ["resample"]).equals(longer)
    (first / "reference.json").write_text("[")
    with pytest.raises(BadInput, match=r"reference\.json cannot be read"):
        solve(first, ["mean"])


def test_all_nodes_of_the_donor_make_the_base_the_donor(tmp_path: Path) -> None:
    graph_nodes = [f"L{layer}H{head}" for layer in range(4) for head in range(6)]
    nodes = (*graph_nodes, *(f"M{layer}" for layer in range(4)))
    donor = loaded(1)
    with torch.no_grad():  # what no node is: the embeddings and the last norm
        donor.load_state_dict({**donor.state_dict(), **{
            name: value for name, value in loaded().state_dict().items() if "layers" not in name
        }})  # fmt: skip
    responses = Responses(tmp_path, SAMPLING.facts)
    comparison = Comparison(Target("all", nodes), GRAFT, {})
    with sitting(EASY, REQUESTS, responses) as (grader, done):
        study = Study(loaded(), tokenizer(), REQUESTS, SAMPLING, responses, grader, done, donor)
        rows = study.solve([comparison]).set_index("condition")["response"]
    assert list(rows[comparison.arm.condition]) == greedy(donor)


@pytest.mark.parametrize("draw", range(2))
def test_the_head_that_solves_is_beyond_random_heads(draw: int, tmp_path: Path) -> None:
    assert planted(draw, tmp_path)


def test_random_heads_are_not_beyond_random_heads(tmp_path: Path) -> None:
    assert (
        sum(verdict for seed in range(1000, 1003) for verdict in null(seed, tmp_path / str(seed)))
        <= 1
    )
