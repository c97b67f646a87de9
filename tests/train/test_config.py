import re
from pathlib import Path

import pytest
import yaml
from transformers.utils import is_torch_tf32_available

from tests.builders.paths import REPO
from tracking import BadInput
from tracking.circuits.top_edges import Selection
from train import config

LAUNCH = REPO / "recipes" / "launch"  # which accelerate reads
RECIPES = sorted({*(REPO / "recipes").rglob("*.yaml")} - {*LAUNCH.iterdir()})
GRPO = str(REPO / "recipes/tiny/grpo.yaml")


def recipe(folder: Path, **keys: object) -> str:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(Path(GRPO).read_text()) | keys))
    return str(path)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_recipe_resolves(path: Path) -> None:
    command = re.search(r"(?:cli|sparks) (\w+) ", path.read_text())  # its first lines run it
    assert command is not None
    # what trains needs the GPU that bf16 and tf32 ask for, which machines that run tests lack
    job = config.load(command[1], ["--config", str(path), "--dry_run", "true"])
    assert job.name == command[1]
    assert job.training.save_steps > 0


@pytest.mark.parametrize("path", [path for path in RECIPES if "vllm" in path.stem], ids=str)
def test_recipes_with_vllm_differ_in_nothing_else(path: Path) -> None:
    ours, plain = (yaml.safe_load(one.read_text()) for one in (path, path.with_name("grpo.yaml")))
    differ = {key for key in ours.keys() | plain.keys() if ours.get(key) != plain.get(key)}
    assert {key for key in differ if "vllm" not in key} == {"output_dir"}


@pytest.mark.skipif(is_torch_tf32_available(), reason="a GPU with tf32 is here")
def test_what_was_trained_in_tf32_is_read_and_planned_where_no_gpu_is(tmp_path: Path) -> None:
    wanted = ["--config", GRPO, "--tf32", "true", "--output_dir", str(tmp_path)]
    with pytest.raises(BadInput, match="--tf32 requires Ampere"):
        config.load("grpo", wanted)
    job = config.load("grpo", [*wanted, "--dry_run", "true"])
    assert job.resolved["tf32"] is True
    config.write(job)
    assert config.of_run(tmp_path).resolved["tf32"] is True  # as a resumed run compares it


def test_flags_override_the_recipe() -> None:
    job = config.load(
        "grpo", ["--config", GRPO, "--learning_rate", "0.5", "--track_select", "edges=7"]
    )
    assert job.training.learning_rate == 0.5
    assert job.settings.select == "edges=7"
    assert job.training.num_generations == 8


@pytest.mark.parametrize(
    ("key", "meant"), [("learning_rat", "learning_rate"), ("track_selects", "track_select")]
)
def test_a_mistyped_key_is_named_with_the_nearest(tmp_path: Path, key: str, meant: str) -> None:
    with pytest.raises(BadInput, match=rf"unknown key '{key}'; did you mean '{meant}'\?"):
        config.load("grpo", ["--config", recipe(tmp_path, **{key: 1})])
    with pytest.raises(BadInput, match=rf"unknown flag '--{key}'; did you mean '--{meant}'\?"):
        config.load("grpo", ["--config", GRPO, f"--{key}", "1"])


def test_an_abbreviated_flag_is_not_guessed() -> None:
    with pytest.raises(BadInput, match="unknown flag '--learning'"):
        config.load("grpo", ["--config", GRPO, "--learning", "1"])


@pytest.mark.parametrize(
    "keys",
    [
        {"learning_rate": "fast"},
        {"max_steps": 1.5},
        {"track_select": "share=0"},
        {"track_on_error": "ignore"},
        {"track_mode": "outline"},
        {"loss_type": None, "num_generations": 7},
        {"save_strategy": "sometimes"},
    ],
)
def test_a_value_that_does_not_fit_is_one_line(tmp_path: Path, keys: dict[str, object]) -> None:
    with pytest.raises(BadInput) as refused:
        config.load("grpo", ["--config", recipe(tmp_path, **keys)])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "a: [1\n", "1: 2\n", "\x00"])
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match=r"broken\.yaml") as refused:
        config.load("sft", ["--config", str(path)])
    assert "\n" not in str(refused.value)


def test_a_missing_recipe_and_a_missing_path_are_refused() -> None:
    with pytest.raises(BadInput, match=r"nowhere\.yaml: no such recipe"):
        config.load("sft", ["--config", "nowhere.yaml"])
    with pytest.raises(BadInput, match="--config needs the path"):
        config.load("sft", ["--config"])


def test_save_steps_must_fit_the_batches_of_generations(tmp_path: Path) -> None:
    keys = {"steps_per_generation": 4, "save_steps": 6}
    with pytest.raises(BadInput, match="save_steps is 6, but a batch of generations lasts 4"):
        config.load("grpo", ["--config", recipe(tmp_path, **keys)])
    job = config.load("grpo", ["--config", recipe(tmp_path, **keys | {"save_steps": 8})])
    assert job.training.save_steps == 8


def test_config_yaml_resolves_to_the_same_job(tmp_path: Path) -> None:
    arguments = ["--config", GRPO, "--output_dir", str(tmp_path / "run"), "--max_steps", "3"]
    job = config.load("grpo", [*arguments, "--dry_run", "true"])
    path = config.write(job)
    again = config.load("grpo", ["--config", str(path)])
    of_the_command = {"dry_run", "eval_delay"}  # the last is 0 as a flag's default, then 0.0
    assert {k: v for k, v in again.resolved.items() if k not in of_the_command} == {
        k: v for k, v in job.resolved.items() if k not in of_the_command
    }


def test_code_comes_from_the_command_line_alone(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="dotted path on the command line"):
        config.load("grpo", ["--config", recipe(tmp_path, reward_funcs=["os.system"])])
    job = config.load("grpo", ["--config", GRPO, "--reward_funcs", "my.module.reward"])
    assert job.script.reward_funcs == ["my.module.reward"]


def test_a_single_reward_needs_no_list(tmp_path: Path) -> None:
    job = config.load("grpo", ["--config", recipe(tmp_path, reward_funcs="tiny_answer_reward")])
    assert job.script.reward_funcs == ["tiny_answer_reward"]


@pytest.mark.parametrize("size", ["share=0.9", {"share": 0.9}])
def test_a_circuit_s_size_may_be_a_mapping_in_a_recipe(tmp_path: Path, size: object) -> None:
    job = config.load("grpo", ["--config", recipe(tmp_path, track_select=size)])
    assert Selection.parse(job.settings.select) == Selection("share", 0.9)


@pytest.mark.parametrize("size", [{"share": 0.9, "edges": 7}, {}, {"top": 5}, ["share"]])
def test_a_mapping_that_is_no_circuit_s_size_is_refused(tmp_path: Path, size: object) -> None:
    with pytest.raises(BadInput, match="select is"):
        config.load("grpo", ["--config", recipe(tmp_path, track_select=size)])


def test_a_token_is_refused_where_it_would_be_written_down(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="put it into the environment as HF_TOKEN") as refused:
        config.load("grpo", ["--config", recipe(tmp_path, hub_token="hf_secret")])
    assert "hf_secret" not in str(refused.value)


@pytest.mark.parametrize("message", ["wandb,tensorboard", "wandb, tensorboard"])
def test_a_job_may_report_to_several(tmp_path: Path, message: str) -> None:
    job = config.load("grpo", ["--config", GRPO, "--report_to", message])
    assert job.training.report_to == ["wandb", "tensorboard"]
    with pytest.raises(BadInput, match="wandbb is not supported"):
        config.load("grpo", ["--config", recipe(tmp_path, report_to="wandbb")])
