"""What counts when a run is gone on with."""

from pathlib import Path

import pytest

from train import config
from train.run import identity

GRPO = str(Path(__file__).parents[3] / "recipes/tiny/grpo.yaml")


def test_of_our_version_the_first_two_numbers_count(monkeypatch: pytest.MonkeyPatch) -> None:
    job = config.load("grpo", ["--config", GRPO])
    monkeypatch.setattr(identity, "_version", lambda package: "1.2.3")
    versions = identity._versions(job)
    assert versions["thinking-sparks"] == "1.2" and versions["torch"] == "1.2.3"


def test_what_an_analysis_is_made_with_counts_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = config.load("grpo", ["--config", GRPO])
    before = identity._versions(job)["analysis"]
    monkeypatch.setattr(identity, "PROCEDURE", (*identity.PROCEDURE, "rank"))
    assert identity._versions(job)["analysis"] != before
    untracked = config.load("grpo", ["--config", GRPO, "--track", "false"])
    assert "analysis" not in identity._versions(untracked)
