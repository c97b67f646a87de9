"""The model that a word means, where its responses go, and what tells it from others."""

import shutil
from pathlib import Path

import pytest

from tests.builders.tiny_model import save_tiny_model
from tracking import BadInput
from train.checkpoints.subject import LENGTH, subject
from train.tiny.base import base_model


def test_named_models_go_into_the_present_folder() -> None:
    tiny = subject("tiny")
    assert tiny.folder == Path("evals/tiny")
    assert tiny.model.source.files == base_model().resolve()
    assert tiny.max_new_tokens == 36


def test_of_a_run_it_is_the_finished_model_else_the_last_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for step in (2, 10):
        save_tiny_model(run / f"checkpoint-{step}")
    assert subject(str(run)).model.source.files == (run / "checkpoint-10").resolve()
    (run / "config.yaml").write_text("# sparks grpo\n")
    assert subject(str(run / "checkpoint-2")).folder == run / "evals" / "checkpoint-2"
    with pytest.raises(BadInput, match="has no whole checkpoint yet"):  # none has its manifest
        subject(str(run))
    save_tiny_model(run)
    finished = subject(str(run))
    assert finished.model.source.files == run.resolve()
    assert finished.folder == run / "evals" / "final"
    assert finished.max_new_tokens == LENGTH


def test_its_hash_is_of_the_weights_wherever_they_lie(tmp_path: Path) -> None:
    one = save_tiny_model(tmp_path / "one")
    shutil.copytree(one, tmp_path / "moved")
    hashes = [subject(str(path)).facts["weights"] for path in (one, tmp_path / "moved")]
    assert hashes[0] == hashes[1] != subject("tiny").facts["weights"]


def test_no_model_is_refused_before_weights_are_loaded(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no whole checkpoint"):
        subject(str(tmp_path))
    with pytest.raises(BadInput, match="no such folder"):
        subject("./nowhere")
    bert = tmp_path / "bert"
    shutil.copytree(base_model(), bert)
    (bert / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(BadInput, match="'vit' model, which writes no text"):
        subject(str(bert))
