"""The real command line, in a process of its own."""

import gc
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest

from tests.builders.paths import REPO
from train.cli import imported_for_good

SPARKS = [sys.executable, "-m", "train.cli"]


def sparks(*arguments: str, cwd: Path = REPO) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SPARKS, *arguments], cwd=cwd, capture_output=True, text=True)


@pytest.mark.parametrize("module", ["train.cli", "train.nowhere"])
def test_garbage_is_collected_again_after_an_import_also_one_that_fails(module: str) -> None:
    with suppress(ImportError), imported_for_good():
        assert not gc.isenabled()
        import_module(module)
    assert gc.isenabled() and gc.get_freeze_count() > 0


def test_help_names_every_command() -> None:
    printed = sparks("--help")
    assert printed.returncode == 0
    assert all(name in printed.stdout for name in ("demo", "grpo", "sft", "distill"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gro"], "unknown command 'gro'"),
        (["sft", "--config", "nowhere.yaml"], "nowhere.yaml: no such recipe"),
        (["grpo", "--config", "recipes/tiny/grpo.yaml", "--learning_rte", "1"], "learning_rate"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    refused = sparks(*arguments)
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert refused.stderr.startswith("sparks: ") and refused.stderr.count("\n") == 1
    assert message in refused.stderr


def test_a_dry_run_through_the_command_line(tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["--config", "recipes/tiny/sft.yaml", "--dry_run", "--output_dir", str(run)]
    printed = sparks("sft", *arguments)
    assert printed.returncode == 0, printed.stderr
    assert "would run  sft: 120 steps" in printed.stdout
    assert (run / "config.yaml").exists()
