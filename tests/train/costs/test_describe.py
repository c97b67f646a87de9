"""What a dry run says of a job's costs, and where it says that it cannot."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from train import config, model
from train.costs.describe import describe, size
from train.tasks.registry import rows_of


@pytest.mark.parametrize(
    ("count", "text"), [(18_500_000_000, "18.5 GB"), (2_207_872, "2.21 MB"), (900, "0.9 kB")]
)
def test_sizes_are_in_powers_of_a_thousand(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("quantised", "text"), [(False, "disk       "), (True, "memory     not counted")]
)
def test_quantised_weights_are_not_counted_as_whole_ones(
    quantised: bool,
    text: str,
    small_words: Callable[..., list[str]],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    job = config.load("sft", [*small_words("sft", tmp_path / "run"), "--dry_run", "true"])
    job = replace(job, model=replace(job.model, load_in_4bit=quantised))
    describe(job, model.start(job), rows_of(job, "train"), {})
    printed = capsys.readouterr().out
    assert text in printed
    assert ("activations" in printed) != quantised


@pytest.mark.parametrize("prompts", [0, 8])
def test_the_models_of_a_live_shift_are_named_where_one_is_asked_for(
    prompts: int,
    small_words: Callable[..., list[str]],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    words = small_words("sft", tmp_path / "run", track_shift=prompts)
    job = config.load("sft", [*words, "--dry_run", "true"])
    describe(job, model.start(job), rows_of(job, "train"), {})
    assert ("or the shift's models" in capsys.readouterr().out) == (prompts > 0)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({}, "and vLLM 30% of each GPU, all the time"),
        ({"vllm_enable_sleep_mode": "true"}, "and vLLM 30% of each GPU, while it generates"),
        ({"vllm_mode": "server"}, "vLLM's own is on its server's GPUs, and not counted"),
    ],
)
def test_vllm_takes_a_part_of_the_gpu_or_another_gpu(
    keys: dict[str, str],
    text: str,
    small_words: Callable[..., list[str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    words = small_words("grpo", tmp_path / "run", use_vllm="true", dry_run="true", **keys)
    job = config.load("grpo", words)
    describe(job, model.start(job), rows_of(job, "train"), {})
    printed = capsys.readouterr().out
    assert text in printed and "cache" not in printed
