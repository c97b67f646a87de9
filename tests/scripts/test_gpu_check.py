"""The command for a GPU runs without one too, on what a GPU machine has, and says what fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scripts.bench.parts import PARTS as OF_A_RECORD
from scripts.gpu_check import run_part
from tests.builders.bare_site import bare_site
from tests.builders.paths import REPO

THERE = ("torch", "transformers", "numpy", "pandas", "scipy", "safetensors")
ABSENT = ("trl", "datasets", "wandb", "pyarrow", "matplotlib", "plotly", "peft", "accelerate")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is installed on a GPU machine: `THERE` and what these need."""
    return bare_site(tmp_path_factory.mktemp("bare") / "site", THERE)


def run(site: Path, code: str) -> str:
    """What code prints in the repository, with nothing to import but what is there."""
    paths = f"import sys; sys.path[:0] = ['', {str(site)!r}]\n"
    command = [sys.executable, "-S", "-c", paths + code]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.slow
def test_all_parts_run_on_a_bare_training_machine(site: Path) -> None:
    code = (
        "from importlib.util import find_spec\n"
        "from tracking import analysis, contrast, rewiring, worker\n"
        "from tracking.ledger import ledger\n"
        "from tracking.timeline import timeline\n"
        f"print([name for name in {ABSENT!r} if find_spec(name)])\n"
        "from scripts.gpu_check import PARTS\n"
        "for run in PARTS.values(): run('cpu', print)"
    )
    installed, _, table = run(site, code).partition("\n")
    assert installed == "[]"
    assert "| scores of edges | 0.0e+00 |" in table  # the CPU against itself
    assert "| sdpa math |" in table and "| flash_attention_2 | not here | |" in table
    assert all(table.count(f"| {part} |") >= 2 for part in OF_A_RECORD.values())
    assert table.count("Behaviour with all edges patched 1.000 of the model's own") >= 1


@pytest.mark.slow
def test_a_part_is_said_line_by_line_and_a_failed_one_with_its_reason() -> None:
    lines: list[str] = []
    assert run_part("equality", "cpu", 120, lines.append)
    assert "### equality" in lines[0] and "| roles | 0.0e+00 |" in lines
    assert not run_part("equality", "cpu", 0.1, lines.append)
    assert lines[-1] == "\nfailed: not done after 0 s"


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    lines: list[str] = []
    assert not run_part("equality", "cuda", 120, lines.append)
    assert lines[-1] == "\nfailed: gpu_check: torch sees no GPU; try it with --device cpu"
