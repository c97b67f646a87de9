"""Models of a job's steps are loaded where they are to be analysed, or take no room beside it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from train import config, model

Words = Callable[..., list[str]]


def test_models_at_steps_take_no_room_beside_one_on_a_gpu(
    small_model: Path, small_words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = config.load("sft", small_words("sft", tmp_path / "run"))
    start = model.start(job)
    asked: list[str] = []

    def moved(self: torch.nn.Module, device: str) -> torch.nn.Module:
        asked.append(device)
        return self

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.nn.Module, "to", moved)
    for load in model.at_steps(job, start, {2: small_model}, model.on_cpu).values():
        assert {one.device.type for one in load().parameters()} == {"cpu"}
    assert not asked
    for load in model.at_steps(job, start, {2: small_model}).values():
        load()
    assert asked == ["cuda", "cuda"]
