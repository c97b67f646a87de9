"""A run that was trained in watch mode and waits for its records."""

import shutil
from pathlib import Path

import pytest

from scripts.campaign.campaign import Campaign
from scripts.campaign.variants import WATCHED, Variant


@pytest.fixture(scope="session")
def trained(campaign: Campaign) -> Path:
    """An SFT run that was trained in watch mode, with one checkpoint kept and nobody watching."""
    run = campaign.world.folder / "sft-watched"
    assert campaign.world.start(Variant("sft", "sft", WATCHED), run).wait() == 0
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(trained, tmp_path / "run")
