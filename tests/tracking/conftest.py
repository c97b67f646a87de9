"""Fixtures of the tests of the science."""

from pathlib import Path

import pytest

from tests.builders.golden import GOLDEN, Golden


@pytest.fixture(scope="session", params=GOLDEN)
def golden(request: pytest.FixtureRequest, shared: Path) -> Golden:
    path = shared / "golden" / f"{request.param}.safetensors"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return Golden.read(path)
