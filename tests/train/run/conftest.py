"""One campaign for all tests of runs: an undisturbed run of a kind is made once."""

from pathlib import Path

import pytest

from scripts.campaign.campaign import Campaign, World
from scripts.campaign.running import warm_up
from tests.builders.campaigns import FAST


@pytest.fixture(scope="session")
def campaign(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    warm_up()
    return Campaign(World(small_model, tmp_path_factory.mktemp("chaos"), FAST), seed=0)
