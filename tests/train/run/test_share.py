"""A run says at its end what tracking cost."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest


def test_the_share_of_time_that_tracking_took_is_said(
    run_job: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_job("sft", tmp_path / "run")
    match = re.search(r"tracking   took (\d+) s, (\d+)% of the time", capsys.readouterr().out)
    assert match is not None and 0 < int(match[2]) <= 100
