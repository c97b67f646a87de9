"""A recipe's file."""

import subprocess
import sys
from pathlib import Path

import pytest

from tracking.errors import BadInput
from train import config, recipe

GRPO = str(Path(__file__).parents[2] / "recipes/tiny/grpo.yaml")


def test_a_key_that_stands_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("seed: 1\n# a note\nmax_steps: 3\nseed: 2\n")
    with pytest.raises(BadInput, match=r"twice.yaml, line 4: 'seed' stands in line 1 already"):
        recipe.read(str(path))


@pytest.mark.parametrize(("old", "new"), recipe.RENAMED.items())
def test_an_old_name_is_answered_with_the_new_one(tmp_path: Path, old: str, new: str) -> None:
    with pytest.raises(BadInput, match=f"unknown flag '--{old}'; it is called '--{new}' now"):
        config.load("grpo", ["--config", GRPO, f"--{old}", "1"])
    path = tmp_path / "old.yaml"
    path.write_text(f"{old}: 1\n")
    with pytest.raises(BadInput, match=f"unknown key '{old}'; it is called '{new}' now"):
        config.load("grpo", ["--config", str(path)])


def test_an_old_name_is_answered_before_anything_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("track_probes: [cue]\n")
    for words in (["--config", str(path)], [f"--config={path}"], ["--track_probes", "cue"]):
        with pytest.raises(BadInput, match=r"'(--)?track_probes'; it is called"):
            recipe.look(words)
    recipe.look(["--config", GRPO, "--seed", "1"])
    recipe.look(["--config"])


@pytest.mark.parametrize("command", ["grpo", "sft", "distill"])
def test_every_key_that_a_command_takes_is_declared(command: str) -> None:
    keys = {action.dest for action in config.make_parser(command)._actions}
    assert keys - recipe.declared() == {"help", "config"}


def test_a_misspelt_key_is_answered_without_loading_a_library(tmp_path: Path) -> None:
    path = tmp_path / "misspelt.yaml"
    path.write_text("learnign_rate: 1\n")
    code = (
        "import sys\n"
        "from train import cli\n"
        "try:\n    cli.main()\n"
        "finally:\n    print(sorted({'torch', 'trl', 'transformers'} & {*sys.modules}))\n"
    )
    words = [sys.executable, "-c", code, "grpo", "--config", str(path)]
    answer = subprocess.run(words, capture_output=True, text=True)
    assert answer.returncode == 2
    assert "unknown key 'learnign_rate'; did you mean 'learning_rate'?" in answer.stderr
    assert answer.stdout.strip() == "[]"
