"""The invariants of a training job, whole runs of a random tiny model."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tracking import BadInput, Ledger

Run = Callable[..., Path]
JOBS = ["grpo", "sft"]


def weights(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


def timeline(run: Path) -> pd.DataFrame:
    return pd.read_parquet(run / "heads" / "timeline.parquet")


@pytest.mark.parametrize("job", JOBS)
def test_tracked_training_ends_in_the_same_bytes_as_untracked(
    job: str, run_job: Run, tmp_path: Path
) -> None:
    tracked = run_job(job, tmp_path / "tracked")
    untracked = run_job(job, tmp_path / "untracked", track="false")
    assert Ledger(tracked / "heads").steps() == [0, 2, 4]
    assert not (untracked / "heads").exists()
    assert weights(tracked) == weights(untracked)
    for step in (2, 4):
        optimizers = [run / f"checkpoint-{step}" / "optimizer.pt" for run in (tracked, untracked)]
        assert optimizers[0].read_bytes() == optimizers[1].read_bytes()


@pytest.mark.parametrize("job", JOBS)
def test_a_resumed_run_ends_like_an_undisturbed_one(job: str, run_job: Run, tmp_path: Path) -> None:
    whole = run_job(job, tmp_path / "whole")
    run_job(job, tmp_path / "broken", max_steps=2)
    keys = {"resume_from_checkpoint": "latest", "accept_changes": "true"}
    broken = run_job(job, tmp_path / "broken", **keys)
    assert weights(whole) == weights(broken)
    assert Ledger(broken / "heads").steps() == [0, 2, 4]
    pd.testing.assert_frame_equal(timeline(whole), timeline(broken))


def test_records_after_the_checkpoint_resumed_from_are_superseded(
    run_job: Run, tmp_path: Path
) -> None:
    run = run_job("sft", tmp_path / "run")
    before = timeline(run)
    run_job("sft", run, resume_from_checkpoint=run / "checkpoint-2")
    superseded = [path.name for path in (run / "heads" / "superseded").iterdir()]
    assert superseded == ["step-00000004.safetensors"]
    pd.testing.assert_frame_equal(before, timeline(run))


def test_the_small_grpo_job_has_something_to_learn_from(run_job: Run, tmp_path: Path) -> None:
    state = run_job("grpo", tmp_path / "run") / "checkpoint-4" / "trainer_state.json"
    norms = [row["grad_norm"] for row in json.loads(state.read_text())["log_history"]]
    assert min(norms) > 0


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "trainer_state.json"])
def test_a_damaged_checkpoint_is_skipped_or_refused_by_name(
    run_job: Run, tmp_path: Path, capsys: pytest.CaptureFixture, name: str
) -> None:
    run = run_job("sft", tmp_path / "run")
    whole = weights(run)
    damaged(run / "checkpoint-4" / name)
    with pytest.raises(BadInput, match=f"checkpoint-4 is no complete checkpoint.*{name}"):
        run_job("sft", run, resume_from_checkpoint=run / "checkpoint-4")
    run_job("sft", run, resume_from_checkpoint="latest")
    assert re.search(f"skipped .*checkpoint-4: .*{name}", capsys.readouterr().out)
    assert weights(run) == whole


@pytest.mark.parametrize(
    ("job", "keys", "told"),
    [
        ("sft", {}, "is at its end already, step 4"),
        (
            "sft",
            {"max_steps": 6, "track_pairs_count": 20},
            "track_pairs_count was 16, is 20: this run's pairs",
        ),
        ("grpo", {"max_steps": 6}, "is no grpo run"),
    ],
)
def test_a_job_that_cannot_go_on_with_the_run_is_refused(
    run_job: Run, tmp_path: Path, job: str, keys: dict[str, object], told: str
) -> None:
    run = run_job("sft", tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with pytest.raises(BadInput, match=told) as refused:
        run_job(job, run, resume_from_checkpoint="latest", **keys)
    assert "\n" not in str(refused.value)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_run_goes_on_only_with_its_own_pairs(run_job: Run, tmp_path: Path) -> None:
    run = run_job("sft", tmp_path / "run")
    keys = {"resume_from_checkpoint": run / "checkpoint-2"}
    with pytest.raises(BadInput, match="belongs to another run"):
        run_job("sft", tmp_path / "other", **keys)
    (run / "heads" / "pairs.safetensors").unlink()
    with pytest.raises(BadInput, match=r"pairs\.safetensors is missing"):
        run_job("sft", run, **keys)


def test_sft_shows_its_loss_by_its_name(
    run_job: Run, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run_job("sft", tmp_path / "run", max_steps=2)
    (title,) = (line for line in capsys.readouterr().out.splitlines() if "surviving" in line)
    assert title.split()[:3] == ["step", "loss", "pairs"]


def test_a_run_leaves_what_the_design_says(
    run_job: Run, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = run_job("grpo", tmp_path / "run")
    assert {path.name for path in run.iterdir()} >= {
        "config.yaml", "checkpoint-2", "checkpoint-4", "heads", "report.png",
    }  # fmt: skip
    assert yaml.safe_load((run / "config.yaml").read_text())["max_steps"] == 4
    assert (run / "report.png").read_bytes().startswith(b"\x89PNG")
    records = Ledger(run / "heads").records()
    assert [record.reward is None for record in records] == [True, False, False]
    assert set(records[0].analyses) == {"cue", "operand"}
    told = capsys.readouterr().out
    assert re.search(r"^ +2 +\d\.\d+ +cue( +\d+){6} ", told, re.MULTILINE)
    assert "report.png" in told


@pytest.mark.parametrize("job", JOBS)
def test_a_dry_run_writes_the_settings_and_trains_nothing(
    job: str, run_job: Run, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = run_job(job, tmp_path / "run", dry_run="true")
    assert {path.name for path in run.iterdir()} == {".lock", "config.yaml"}
    assert "nothing was trained" in capsys.readouterr().out
    run_job(job, run, max_steps=2, track="false")  # its folder is still free


def test_a_folder_with_another_run_is_left_alone(run_job: Run, tmp_path: Path) -> None:
    run = run_job("sft", tmp_path / "run", max_steps=2)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with pytest.raises(BadInput, match="holds another run"):
        run_job("sft", run)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"model_name_or_path": "/no/such/folder"}, "/no/such/folder"),
        ({"dataset_name": "missing.jsonl", "track_contrasts": "operand"}, "no such file"),
        ({"track_contrasts": "answer"}, "no prompt pairs of contrast 'answer'"),
        ({"track_pairs_minimum": 17}, "track_pairs_minimum is 17, more than"),
        ({"resume_from_checkpoint": "latest"}, "has no run to resume"),
        ({"dataset_train_split": "nonsense"}, "splits train and test"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_nothing_is_written(
    run_job: Run, tmp_path: Path, keys: dict[str, object], told: str
) -> None:
    with pytest.raises(BadInput, match=told) as refused:
        run_job("grpo", tmp_path / "run", **keys)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_too_few_pairs_are_told_with_what_was_dropped(run_job: Run, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"question": "How many?", "answer": "None.\n#### 0"}) + "\n")
    keys = {"dataset_name": rows, "reward_funcs": "accuracy_reward", "track_contrasts": "operand"}
    with pytest.raises(BadInput, match=r"pairs 'operand': 0 usable pairs of 1 .*dropped: 1 no"):
        run_job("grpo", tmp_path / "run", **keys)
    assert not (tmp_path / "run").exists()


def test_an_unsupported_architecture_is_refused_before_training(
    run_job: Run, tmp_path: Path
) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    from train.tiny import tokenizer as tiny

    folder = tmp_path / "gpt2"
    config = GPT2Config(vocab_size=103, n_embd=8, n_layer=1, n_head=2, n_positions=64)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    with pytest.raises(BadInput, match=r"cannot track a 'gpt2' model.*supported: llama, mistral"):
        run_job("sft", tmp_path / "run", model_name_or_path=folder)


def test_a_lora_run_is_tracked_as_it_trains(run_job: Run, tmp_path: Path) -> None:
    keys = {"use_peft": "true", "lora_r": 4, "lora_target_modules": "all-linear"}
    run = run_job("sft", tmp_path / "run", learning_rate=0.01, **keys)
    first, *_, last = Ledger(run / "heads").records()
    assert (run / "adapter_model.safetensors").exists()
    change = last.analyses["cue"].scores.edge_scores - first.analyses["cue"].scores.edge_scores
    assert change.abs().max() > 0
