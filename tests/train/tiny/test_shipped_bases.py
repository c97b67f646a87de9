"""The shipped bases are the listed bytes, whole models, and calculate but hardly read the cue."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.builders.chains import CHARS, SMALL, cue_behaviour
from train.tiny import base, evaluation, task
from train.tiny.base import BASES, SHIPPED, BaseSettings

SEEDS = pytest.mark.parametrize("seed", SHIPPED)


def test_every_shipped_file_is_listed_with_its_bytes():
    lines = (BASES / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    files = {str(path.relative_to(BASES)): path for path in BASES.rglob("*") if path.is_file()}
    assert listed.keys() == files.keys() - {"SHA256SUMS"}
    for name, digest in listed.items():
        assert hashlib.sha256(files[name].read_bytes()).hexdigest() == digest, name


@SEEDS
def test_a_shipped_base_is_not_made(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SPARKS_CACHE", str(tmp_path / "none"))
    assert (
        base.base_model(seed)
        == base.base_model(seed, settings=BaseSettings())
        == (BASES / f"seed{seed}")
    )
    assert not (tmp_path / "none").exists()


def test_other_seeds_and_settings_are_not_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SPARKS_CACHE", str(tmp_path))
    assert base.base_model(0, settings=SMALL).parent == tmp_path
    monkeypatch.setattr(base, "_pretrain", lambda *_: base._new_model(SMALL, CHARS))
    assert base.base_model(3).parent == tmp_path


@SEEDS
def test_a_shipped_base_is_what_the_code_would_save(seed: int, tmp_path: Path):
    base._save(base._new_model(BaseSettings(), CHARS), tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {path.name for path in (BASES / f"seed{seed}").iterdir()}
    new, shipped = (load_file(at / "model.safetensors") for at in (tmp_path, BASES / f"seed{seed}"))
    assert {n: (w.shape, w.dtype) for n, w in new.items()} == {
        n: (w.shape, w.dtype) for n, w in shipped.items()
    }
    chars = AutoTokenizer.from_pretrained(BASES / f"seed{seed}")
    assert chars.get_vocab() == CHARS.get_vocab() and chars.chat_template == CHARS.chat_template


def load(seed: int) -> Any:
    return AutoModelForCausalLM.from_pretrained(base.base_model(seed))


@SEEDS
def test_a_shipped_base_calculates_but_hardly_reads_the_cue(seed: int):
    model = load(seed)
    assert model.dtype == torch.float32
    asked = task.problems("test", 400, seed=7, cue_matters=True)
    result = evaluation.evaluate(model, CHARS, asked)
    assert 0.35 < result.right < 0.6
    assert 0.25 < result.flip < 0.5
    assert result.malformed < 0.03
    greedy = evaluation.evaluate(model, CHARS, asked, temperature=0)
    assert greedy.right + greedy.flip > 0.98
