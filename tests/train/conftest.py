"""A small world for training in tests: a random tiny model in a folder, and a recipe for it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from scripts.campaign.campaign import Campaign, World
from scripts.campaign.running import warm_up
from tests.builders.campaigns import FAST
from tests.builders.recipes import words
from tests.builders.tiny_model import save_tiny_model
from train.commands import distill, grpo, sft

COMMANDS = {"grpo": grpo, "sft": sft, "distill": distill}


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random two-layer Qwen2 that speaks the tiny world's tokenizer."""
    return save_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def small_words(small_model: Path) -> Callable[..., list[str]]:
    """`small_words("grpo", folder, key=value, ...)`: the small job's command line."""
    return partial(words, small_model)


@pytest.fixture(scope="session")
def run_job(small_words: Callable[..., list[str]]) -> Callable[..., Path]:
    """`run_job("grpo", folder, key=value, ...)`: runs the small job there, in this process."""

    def run(name: str, folder: Path, **keys: object) -> Path:
        COMMANDS[name].main(small_words(name, folder, **keys))
        return folder

    return run


@pytest.fixture(scope="session")
def campaign(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """One campaign for all tests of runs: an undisturbed run of a kind is made once."""
    warm_up()
    return Campaign(World(small_model, tmp_path_factory.mktemp("chaos"), FAST), seed=0)
