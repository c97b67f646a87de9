"""Fixtures of all tests: small random decoders and pairs, made from a seed, and a browser.

The process that hands the tests out reads this file too, so what is heavy is imported where it is
asked for.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests.builders.paths import SHARED

if TYPE_CHECKING:
    from tests.builders.browser import Shown
    from tracking.pairs.prompt_pairs import PromptPairs

# No limit of time, whatever else the machine does; every run of the tests draws other examples.
hypothesis.settings.register_profile("here", deadline=None, max_examples=50)
hypothesis.settings.load_profile("here")


def pytest_collection() -> None:
    """No collection of garbage goes through what is being imported, again and again."""
    gc.disable()


def pytest_collection_finish() -> None:
    """What is imported by now stays: no later collection of garbage goes through it again, which
    trainers ask for and takes half a second."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    import torch

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
    from tracking.errors import BadInput
    from train.smollm2 import smollm2

    try:
        return smollm2()
    except BadInput as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def tiny_decoder() -> Callable[..., Any]:
    from tests.builders.decoders import make_decoder

    return make_decoder


@pytest.fixture(scope="session")
def random_pairs() -> Callable[..., PromptPairs]:
    from tests.builders.prompt_pairs import make_pairs

    return make_pairs


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real browser; tests that need it are skipped where there is none."""
    from tests.builders.browser import QUIET

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
    from tests.builders.browser import Shown

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
