"""A job on a generator's problems, from its recipe to its records."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.builders.paths import TINY
from tracking import BadInput
from tracking.pairs.frozen import load_pairs
from train import config
from train.commands import grpo
from train.rewards.registry import guarded
from train.tasks.registry import pairs_task, rows_of, training_task

pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")
DIGITS = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
SUMS = {
    "dataset_name": "reasoning-gym/chain_sum",
    "dataset_parameters": DIGITS,
    "dataset_question": "What is {expression}?",
    "dataset_size": 64,
    "reward_funcs": ["reasoning_gym_reward"],
    "track_contrasts": ["operand", "first_token", "items"],
}


def recipe(folder: Path, name: str = "grpo", **keys: object) -> str:
    """A recipe's path: the tiny one's, on sums."""
    settings = {**yaml.safe_load((TINY / f"{name}.yaml").read_text()), **SUMS, **keys}
    if name == "sft":
        del settings["reward_funcs"]
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings))
    return str(path)


def test_a_recipe_gives_rows_with_what_the_reward_reads(tmp_path: Path) -> None:
    job = config.load("grpo", ["--config", recipe(tmp_path, system_prompt="Think.")])
    rows = rows_of(job, "train")
    assert len(rows) == 64 and 1 <= len(rows_of(job, "test")) <= 8
    assert rows[0]["prompt"][0] == {"role": "system", "content": "Think."}
    assert rows[0]["prompt"][1]["content"].startswith("What is ")
    assert len({row["prompt"][1]["content"] for row in rows.to_list()}) == 64
    worked = rows_of(config.load("sft", ["--config", recipe(tmp_path, "sft")]), "train")
    assert worked[0]["messages"][-1]["content"].endswith(f"= {rows[0]['answer']}")


def test_parameters_may_stand_on_the_command_line_as_json(tmp_path: Path) -> None:
    words = ["--config", recipe(tmp_path), "--dataset_parameters", json.dumps(DIGITS)]
    assert config.load("grpo", words).ours.dataset_parameters == DIGITS
    for wrong in ("min_terms", "[1]", "2"):
        with pytest.raises(BadInput, match="takes names and values"):
            config.load("grpo", [*words[:3], wrong])


def test_few_questions_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = config.load("grpo", ["--config", recipe(tmp_path, dataset_size=512)])
    rows = rows_of(job, "train")
    assert f"{len(rows)} different questions in 1024 draws, 512 wanted" in capsys.readouterr().out


def test_the_reward_scores_in_its_own_process(tmp_path: Path) -> None:
    job = config.load("grpo", ["--config", recipe(tmp_path)])
    rows = rows_of(job, "train")[:3]
    texts = [f"it is {rows['answer'][0]}", "17 or so", "####"]
    completions = [[{"role": "assistant", "content": text}] for text in texts]
    (reward,) = guarded(["reasoning_gym_reward"], 12, 60.0)
    try:
        assert reward([""] * 3, completions, **rows) == [1.0, 0.0, 0.0]
    finally:
        reward.close()


def test_pairs_may_come_from_a_generator_of_their_own(tmp_path: Path) -> None:
    words = ["--config", recipe(tmp_path), "--track_pairs_dataset", "reasoning-gym/gcd"]
    task = pairs_task(config.load("grpo", words))
    assert task is not None and task.contrasts == ("operand", "first_token", "items")
    words[-1] = "reasoning-gym/gcds"
    with pytest.raises(BadInput, match="no generator 'gcds'; did you mean gcd"):
        pairs_task(config.load("grpo", words))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"dataset_name": "reasoning-gym/chain_sun"}, "did you mean chain_sum"),
        ({"dataset_parameters": {"max_terms": 1}}, "max_terms must be >= min_terms"),
        ({"dataset_name": "tiny"}, "are for reasoning-gym/... alone"),
        ({"track_contrasts": ["cue"]}, "track_contrasts: operand, first_token, items"),
    ],
)
def test_a_mistake_is_told_before_any_work(tmp_path: Path, keys: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message) as refused:
        grpo.main(["--config", recipe(tmp_path, output_dir=str(tmp_path / "run"), **keys)])
    assert "\n" not in str(refused.value) and not (tmp_path / "run").exists()


def test_without_the_package_its_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = config.load("grpo", ["--config", recipe(tmp_path)])
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    with pytest.raises(BadInput, match=r"pip install 'thinking-sparks\[tasks\]'"):
        training_task(job)


def test_what_names_no_answer_cannot_be_learned_by_heart(tmp_path: Path) -> None:
    keys = {"dataset_name": "reasoning-gym/rubiks_cube", "dataset_parameters": None}
    path = recipe(tmp_path, "sft", dataset_question=None, dataset_size=4, **keys)
    with pytest.raises(BadInput, match="SFT needs answers"):
        rows_of(config.load("sft", ["--config", path]), "train")


@pytest.mark.slow
def test_a_job_trains_evaluates_and_tracks(tmp_path: Path, run_job: Callable[..., Path]) -> None:
    keys = {key: value for key, value in SUMS.items() if key != "dataset_parameters"}
    keys |= {"dataset_parameters": json.dumps(DIGITS), "eval_strategy": "steps", "eval_steps": 2}
    keys |= {"max_steps": 2, "per_device_eval_batch_size": 4}
    keys |= {"dataset_question": "How much is {expression}, all in all?"}  # long enough in letters
    run = run_job("grpo", tmp_path / "run", **keys)
    pairs = load_pairs(run / "heads" / "pairs.safetensors")
    assert {contrast: len(each) for contrast, each in pairs.items()} == {
        "operand": 16,
        "first_token": 16,
        "items": 16,
    }
    assert len([*(run / "heads").glob("step-*.safetensors")]) == 2
    again = config.load("grpo", ["--config", str(run / "config.yaml")])
    assert again.ours.dataset_parameters == DIGITS
