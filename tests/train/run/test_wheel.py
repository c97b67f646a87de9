"""What `pip install .` puts into an environment."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

REPO = Path(__file__).parents[3]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "train", "tracking", "recipes")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    if find_spec("setuptools") is None:
        pytest.skip("needs setuptools")
    tree, built = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source = REPO / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", ".*")
            shutil.copytree(source, tree / name, ignore=ignored)
        else:
            shutil.copy(source, tree / name)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(built)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=tree, check=True, capture_output=True)
    (path,) = built.glob("*.whl")
    return zipfile.ZipFile(path)


KINDS = (
    "train/**/*.py", "tracking/**/*.py", "tracking/views/page/*", "recipes/**/*.yaml",
    "train/tiny/bases/**/*",
)  # fmt: skip


def test_every_module_page_recipe_and_base_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    files = [path for kind in KINDS for path in REPO.glob(kind) if path.is_file()]
    wanted = {str(path.relative_to(REPO)) for path in files}
    base = "train/tiny/bases/seed0/model.safetensors"
    assert {"train/cli.py", "recipes/tiny/grpo.yaml", base} <= wanted
    assert wanted | {"train/py.typed", "tracking/py.typed"} <= {*wheel.namelist()}


def test_nothing_else_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "train",
        "tracking",
        "recipes",
    }


def test_an_installed_copy_runs_from_another_folder(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    wheel.extractall(site)
    elsewhere.mkdir()
    printed = subprocess.run(
        [sys.executable, "-m", "train.cli", "demo", "--dry_run", "--report_to", "none"],
        cwd=elsewhere, env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True,
    )  # fmt: skip
    assert printed.returncode == 0, printed.stderr
    assert (elsewhere / "runs/demo/config.yaml").exists()
