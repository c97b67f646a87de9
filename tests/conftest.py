"""Fixtures of all tests: small random decoders and pairs, made from a seed, and a browser."""

import gc
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch

from tests.builders.browser import QUIET, Shown
from tests.builders.decoders import make_decoder
from tests.builders.paths import SHARED
from tests.builders.prompt_pairs import make_pairs
from tracking.errors import BadInput
from tracking.pairs.prompt_pairs import PromptPairs
from train.smollm2 import smollm2

hypothesis.settings.register_profile("untimed", deadline=None)  # whatever else the machine does
hypothesis.settings.load_profile("untimed")


gc.disable()  # until all is imported: collections would go through it again and again


def pytest_collection_finish() -> None:
    """What is imported by now stays: no later collection of garbage goes through it again, which
    trainers ask for and takes half a second."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The material beside the repository; tests that need it are skipped where it is not."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there")
    return SHARED


@pytest.fixture(scope="session")
def real_folder() -> Path:
    """SmolLM2's folder; tests of it are marked `real`, and skipped where it is not."""
    try:
        return smollm2()
    except BadInput as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def tiny_decoder() -> Callable[..., Any]:
    return make_decoder


@pytest.fixture(scope="session")
def random_pairs() -> Callable[..., PromptPairs]:
    return make_pairs


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real browser; tests that need it are skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("there is no chromium here")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=list(QUIET))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def reports(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    return Shown(browser, tmp_path_factory.mktemp("reports"))


@pytest.fixture
def show(reports: Shown) -> Iterator[Shown]:
    """`show(runs)` opens their report; nothing may be complained of, nothing fetched but the
    file itself."""
    yield reports
    assert reports.complaints == []
    files = [url for url in reports.fetched if url.startswith("file:")]
    rest = [url for url in reports.fetched if not url.startswith(("file:", "data:", "blob:"))]
    assert len(files) == len(reports.pages) and rest == []
