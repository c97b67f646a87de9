"""The shipped bases are the listed bytes, whole models; they calculate but hardly read the cue."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.builders.chains import CHARS, SMALL
from tracking import PromptPairs
from train import config
from train.data import contrasts
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
    for settings in (None, SHIPPED[seed]):
        assert base.base_model(seed, settings=settings) == BASES / f"seed{seed}"
    assert not (tmp_path / "none").exists()


def test_other_seeds_and_settings_are_not_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SPARKS_CACHE", str(tmp_path))
    assert base.base_model(0, settings=SMALL).parent == tmp_path
    monkeypatch.setattr(base, "_pretrain", lambda *_: base._new_model(SMALL, CHARS))  # in no time
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
    result = evaluation.evaluate(asked, evaluation.replies(model, CHARS, asked))
    assert 0.35 < result.right < 0.7
    assert 0.2 < result.flip < 0.5
    assert result.malformed < 0.03
    likeliest = evaluation.replies(model, CHARS, asked, temperature=0)
    greedy = evaluation.evaluate(asked, likeliest)
    assert greedy.right + greedy.flip > 0.98


@SEEDS
def test_the_shipped_bases_have_the_behaviour_hardly_or_a_little(seed: int):
    """Against 16 on pairs that differ in an operand, which every base reads."""
    size = {name: behaviour(load(seed), pairs(name)) for name in ("cue", "operand")}
    low, high = {0: (0.5, 0.9), 1: (1.3, 1.9), 2: (-0.1, 0.1)}[seed]
    assert low < size["cue"] < high
    assert 14 < size["operand"] < 18


def pairs(contrast: str) -> PromptPairs:
    job = config.load("grpo", ["--config", "recipes/tiny/grpo.yaml", "--report_to", "none"])
    return contrasts.build(job, CHARS, lambda: None)[contrast]


@torch.no_grad()
def behaviour(model: Any, of: PromptPairs) -> float:
    """Mean logit difference, right token less the other side's, clean less corrupted; by hand."""
    assert of.labels is not None
    last = of.attention_mask.sum(1) - 1
    rows = torch.arange(len(of))
    sides = (model(input_ids=ids).logits[rows, last] for ids in (of.clean, of.corrupted))
    clean, corrupted = (at.gather(1, of.labels).T for at in sides)
    return ((clean[0] - clean[1]) - (corrupted[0] - corrupted[1])).mean().item()
