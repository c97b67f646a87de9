"""What a dry run finds without weights."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from tracking.errors import BadInput
from train import config
from train.run import preflight

REPO = Path(__file__).parents[3]
REAL = str(REPO / "recipes/qwen2.5-math-1.5b/grpo.yaml")

DryRun = Callable[..., str]


@pytest.fixture
def dry_run(
    run_job: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> DryRun:
    def run(name: str, **keys: object) -> str:
        run_job(name, tmp_path / "run", dry_run="true", **keys)
        return capsys.readouterr().out

    return run


def test_it_says_how_often_heads_are_analysed_and_what_is_evaluated(dry_run: DryRun) -> None:
    printed = dry_run("sft", eval_strategy="steps", eval_steps=2)
    assert "tracking   every 2 steps" in printed
    assert "evaluation 64 rows of split test, every 2 steps" in printed
    assert "evaluation none" in dry_run("sft")


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"save_steps": 5000}, "step 0 and the end, 4, only: the first checkpoint would be"),
        ({"save_strategy": "no"}, "step 0 only, and nothing that training does"),
        ({"save_strategy": "epoch"}, "step 0 and the end, 4, only"),
    ],
)
def test_it_says_where_checkpoints_are_too_few(dry_run: DryRun, keys: dict, line: str) -> None:
    assert f"tracking   {line}" in dry_run("sft", **keys)


def test_epochs_that_cut_a_batch_of_generations_are_refused(dry_run: DryRun) -> None:
    with pytest.raises(BadInput, match="save_strategy is epoch: every 14 steps"):
        dry_run(
            "grpo",
            save_strategy="epoch",
            steps_per_generation=3,
            gradient_accumulation_steps=2,
            dataset_size=54,
        )


def test_fewer_rows_than_pairs_are_refused(dry_run: DryRun, tmp_path: Path) -> None:
    data = tmp_path / "few.jsonl"
    row = {"question": "What is 2 + 3?", "answer": "2 + 3 = <<2+3=5>>5\n#### 5"}
    data.write_text(8 * (json.dumps(row) + "\n"))
    with pytest.raises(BadInput, match="8 usable pairs of 8"):
        dry_run("sft", dataset_name=data, track_contrasts="operand")


def test_few_pairs_are_explained(dry_run: DryRun) -> None:
    printed = dry_run("sft", track_pairs_count=4, track_pairs_minimum=2)
    assert "few pairs  cue: with fewer than 16 pairs" in printed


def test_missing_bitsandbytes_is_told(dry_run: DryRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="load_in_4bit needs bitsandbytes"):
        dry_run("sft", load_in_4bit="true")


@pytest.mark.parametrize("mode", ["colocate", "server"])
def test_missing_vllm_is_told_where_it_would_train(mode: str) -> None:
    recipe = REAL.replace("grpo.yaml", f"grpo-vllm-{mode}.yaml")
    words = ["--config", recipe, "--bf16", "false", "--tf32", "false", "--use_cpu"]
    with pytest.raises(BadInput, match="use_vllm: vLLM is not installed"):
        preflight.check_machine(config.load("grpo", words))
    preflight.check_machine(config.load("grpo", [*words, "--dry_run"]))


def test_conversations_need_a_chat_template(
    dry_run: DryRun, small_model: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    tokenizer = AutoTokenizer.from_pretrained(small_model)
    tokenizer.chat_template = None
    bare.mkdir()
    for file in small_model.iterdir():
        (bare / file.name).write_bytes(file.read_bytes())
    (bare / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(bare)
    with pytest.raises(BadInput, match="has no chat template"):
        dry_run("sft", model_name_or_path=bare, assistant_only_loss="false")


def test_a_recipe_for_a_gpu_resolves_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    job = config.load("grpo", ["--config", REAL, "--dry_run"])
    assert job.training.bf16 and job.resolved["bf16"] is True
    assert job.resolved["use_cpu"] is False
    with pytest.raises(BadInput, match="bf16"):
        config.load("grpo", ["--config", REAL])


def test_a_dry_run_says_that_its_machine_has_no_gpu(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    preflight.check_machine(config.load("grpo", ["--config", REAL, "--dry_run"]))
    assert "precision  bf16 needs a GPU" in capsys.readouterr().out


def test_fp16_on_a_cpu_is_refused(dry_run: DryRun) -> None:
    with pytest.raises(BadInput, match="fp16 needs a GPU"):
        dry_run("sft", fp16="true")
