"""The tiny world's base is there whole or not at all."""

import random
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.builders.chains import CHARS, SMALL
from train.tiny import base, task
from train.tiny.base import BaseSettings
from train.tiny.task import Problem


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPARKS_CACHE", str(tmp_path))
    return tmp_path


def test_the_same_seed_makes_the_same_bytes_whatever_the_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def weights(place: str, threads: int, seed: int = 0) -> bytes:
        monkeypatch.setenv("SPARKS_CACHE", str(tmp_path / place))
        torch.set_num_threads(threads)
        folder = base.base_model(seed, settings=SMALL)
        assert torch.get_num_threads() == threads
        return (folder / "model.safetensors").read_bytes()

    before = torch.get_num_threads()
    try:
        first = weights("a", threads=1)
        assert weights("b", threads=2) == first
        assert weights("c", threads=1, seed=1) != first
    finally:
        torch.set_num_threads(before)


def test_making_a_base_neither_reads_nor_changes_the_random_state(cache: Path):
    def state() -> tuple[Any, ...]:
        return torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())

    torch.manual_seed(1)
    before = state()
    first = base.base_model(0, settings=SMALL).joinpath("model.safetensors").read_bytes()
    assert state() == before
    torch.manual_seed(2)
    other = cache / "other"
    base._save(base._pretrain(0, SMALL, progress=False), other)
    assert other.joinpath("model.safetensors").read_bytes() == first


def test_a_base_is_made_once_and_named_by_seed_and_settings(
    cache: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = base.base_model(7, settings=SMALL)
    assert folder.parent == cache and "seed7" in folder.name
    monkeypatch.setattr(base, "_pretrain", refuse)
    assert base.base_model(7, settings=SMALL) == folder
    for name, value in asdict(SMALL).items():
        changed = tuple(2 * x for x in value) if isinstance(value, tuple) else 2 * value
        other = BaseSettings(**{**asdict(SMALL), name: changed})
        assert base._fingerprint(other) != base._fingerprint(SMALL), name


def refuse(*_: Any) -> Any:
    raise AssertionError("a cached base was made again")


@pytest.mark.parametrize("where", ["_solution_loss", "_save"])
def test_an_interrupted_build_leaves_nothing_in_the_cache(
    cache: Path, monkeypatch: pytest.MonkeyPatch, where: str
):
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(base, where, interrupt)
        with pytest.raises(KeyboardInterrupt):
            base.base_model(settings=SMALL)
    assert list(cache.iterdir()) == []


def test_progress_is_shown_on_a_terminal_only(cache: Path, capfd: pytest.CaptureFixture[str]):
    base.base_model(settings=SMALL)
    assert not sys.stderr.isatty()
    assert capfd.readouterr() == ("", "")


def test_the_base_loads_as_any_checkpoint_does(cache: Path):
    folder = base.base_model(settings=SMALL)
    chars = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert chars.chat_template == CHARS.chat_template and chars.padding_side == "left"
    assert chars.get_vocab() == CHARS.get_vocab()
    text = "<|user|>-(3+5*2)<|assistant|>3+5=8;####8<eos> a  B\n#####"
    assert chars.tokenize(text) == CHARS.tokenize(text)
    assert chars.decode(chars(text).input_ids) == text
    assert model.dtype == torch.float32 and model.config.vocab_size == len(chars)
    assert model.generation_config.eos_token_id == chars.eos_token_id
    assert model.generation_config.pad_token_id == chars.pad_token_id
    assert not {path.name[0] for path in cache.iterdir()} & {"."}


def test_training_lowers_the_loss(cache: Path):
    def loss(steps: int) -> float:
        settings = BaseSettings(layers=1, steps=steps, batch_size=16)
        model: Any = AutoModelForCausalLM.from_pretrained(base.base_model(settings=settings))
        texts = base._texts(random.Random(9), settings)
        return base._solution_loss(model, CHARS, [next(texts) for _ in range(64)]).item()

    assert loss(40) < 0.7 * loss(1)


def test_weights_are_saved_in_bfloat16_and_read_in_float32(cache: Path):
    folder = base.base_model(settings=SMALL)
    saved = load_file(folder / "model.safetensors")
    assert {weight.dtype for weight in saved.values()} == {torch.bfloat16}
    read = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert {weight.dtype for weight in read.values()} == {torch.float32}
    exact = base._pretrain(0, SMALL, progress=False).state_dict()
    assert exact.keys() == read.keys()
    for name, weight in exact.items():
        torch.testing.assert_close(read[name], weight.bfloat16().float(), rtol=0, atol=0)


def test_the_embedded_model_is_small_and_has_24_heads():
    model = base._new_model(BaseSettings(), CHARS)
    assert model.num_parameters() < 1_000_000
    assert model.config.num_hidden_layers * model.config.num_attention_heads == 24


def test_the_base_reads_no_held_out_expression_and_mostly_not_the_cue():
    texts = base._texts(random.Random(0), BaseSettings(slip=0.0))
    obeyed = []
    for prompt, reply in (next(texts) for _ in range(3000)):
        problem = Problem(prompt[2:-1], prompt[0])
        assert not problem.held_out
        assert task.answer_of(reply) in (problem.answer, problem.other.answer)
        if problem.cue_matters:
            obeyed.append(task.answer_of(reply) == problem.answer)
    share = BaseSettings().cue_obeyed
    assert sum(obeyed) / len(obeyed) == pytest.approx(share + (1 - share) / 2, abs=0.04)
