"""The completions files of a real run are what its trainer saw."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.builders.paths import REPO
from tracking.views.completions import batches, files
from train.run import resume

Run = Callable[..., Path]


def test_the_recipes_keep_completions_and_print_none() -> None:
    for path in (REPO / "recipes").glob("*/grpo.yaml"):
        recipe = yaml.safe_load(path.read_text())
        assert (recipe["log_completions"], recipe["num_completions_to_print"]) == (True, 0)


def test_completions_later_than_the_step_resumed_from_are_set_aside(tmp_path: Path) -> None:
    folder = tmp_path / "completions"
    folder.mkdir()
    for aside in (3, 6):
        for step in range(1, 6):
            (folder / f"completions_{step:05}.parquet").touch()
        resume.take_up(tmp_path, tmp_path / "checkpoint-2", [])
        assert sorted(files(tmp_path)) == [1, 2]
        assert len([*(tmp_path / "superseded" / "completions").iterdir()]) == aside
    resume.take_up(tmp_path, None, [])
    assert files(tmp_path) == {}


def test_mean_rewards_are_the_trainer_s_and_training_is_the_same(
    run_job: Run, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    recipe = yaml.safe_load((REPO / "recipes" / "tiny" / "grpo.yaml").read_text())
    rewards = ["soft_overlong_punishment", "tests.builders.digits.digits"]
    recipe["reward_weights"] = [-0.5, 2.0]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    keys = {"config": path, "track": "false", "num_iterations": 2, "reward_funcs": rewards}
    run = run_job("grpo", tmp_path / "run", **keys)
    printed = capsys.readouterr().out
    assert "Prompt" not in printed and "Completion" not in printed
    rows = pd.DataFrame(one for batch in batches(run) for one in batch)
    state = json.loads((run / "checkpoint-4" / "trainer_state.json").read_text())
    logged = {row["step"]: row["reward"] for row in state["log_history"] if "reward" in row}
    means = rows.groupby("step")["reward"].mean()
    assert set(means) != {0.0}
    assert means.to_dict() == pytest.approx({step: logged[step] for step in (1, 3)})
    assert len(list((run / "completions").iterdir())) == 4  # a batch lasts two steps
    quiet = run_job("grpo", tmp_path / "quiet", **keys, log_completions="false")
    assert not (quiet / "completions").exists()
    weights = [(one / "model.safetensors").read_bytes() for one in (run, quiet)]
    assert weights[0] == weights[1]
    assert pd.api.types.is_integer_dtype(rows["step"])
