"""What a dry run says of a job's costs, and where it says that it cannot."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from train import config, model
from train.costs.describe import describe, size
from train.tasks.registry import for_sft


@pytest.mark.parametrize(
    ("count", "said"), [(18_500_000_000, "18.5 GB"), (2_207_872, "2.21 MB"), (900, "0.9 kB")]
)
def test_sizes_are_in_powers_of_a_thousand(count: int, said: str) -> None:
    assert size(count) == said


@pytest.mark.parametrize(
    ("quantised", "said"), [(False, "disk       "), (True, "memory     not counted")]
)
def test_quantised_weights_are_not_counted_as_whole_ones(
    quantised: bool,
    said: str,
    small_words: Callable[..., list[str]],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    job = config.load("sft", [*small_words("sft", tmp_path / "run"), "--dry_run", "true"])
    job = replace(job, model=replace(job.model, load_in_4bit=quantised))
    describe(job, model.start(job), for_sft(job, "train"), {})
    printed = capsys.readouterr().out
    assert said in printed
    assert ("activations" in printed) != quantised
