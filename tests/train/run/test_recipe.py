"""A recipe's file."""

from pathlib import Path

import pytest

from tracking.errors import BadInput
from train import config, recipe

GRPO = str(Path(__file__).parents[3] / "recipes/tiny/grpo.yaml")


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
