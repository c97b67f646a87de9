"""Distillation: the student learns what a teacher says of its own text, tracked and resumed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.campaign.outcome import Outcome
from tracking import BadInput, Ledger
from train.run.manifest import MANIFEST, Manifest

Run = Callable[..., Path]
KEYS = {
    "gradient_accumulation_steps": 2,
    "log_completions": "true",
    "num_completions_to_print": 0,
    "learning_rate": 0.01,
    "track_contrasts": "cue",
}


@pytest.fixture(scope="module")
def run(run_job: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracked distillation of 4 steps that has ended, only read."""
    return run_job("distill", tmp_path_factory.mktemp("distill") / "run", **KEYS)


def log(checkpoint: Path) -> list[dict[str, Any]]:
    return json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]


def test_a_distillation_is_tracked_and_reported_like_other_jobs(run: Path) -> None:
    records = Ledger(run / "heads").records()
    assert [record.step for record in records] == [0, 2, 4]
    assert {record.reward_name for record in records} == {"loss"}
    losses = [row["loss"] for row in log(run / "checkpoint-4")]
    assert records[1].reward == pytest.approx(sum(losses[:2]) / 2)
    assert Manifest.read(run).identity.job == "distill"
    assert (run / "report.html").exists() and (run / "report.png").exists()
    assert len([*(run / "completions").iterdir()]) == 4


def test_tracking_changes_nothing_of_a_distillation(
    run: Path, run_job: Run, tmp_path: Path
) -> None:
    plain = run_job("distill", tmp_path / "run", **KEYS, track="false")
    for name in ("model.safetensors", "checkpoint-4/optimizer.pt"):
        assert (plain / name).read_bytes() == (run / name).read_bytes()


def test_a_distillation_killed_after_a_checkpoint_ends_like_an_undisturbed_one(
    run: Path, run_job: Run, tmp_path: Path
) -> None:
    again = shutil.copytree(run, tmp_path / "run")
    for name in (MANIFEST, "model.safetensors", f"checkpoint-4/{MANIFEST}"):
        (again / name).unlink()
    run_job("distill", again, **KEYS, resume_from_checkpoint="latest")
    assert (again / "superseded" / "checkpoint-4").exists()
    assert Outcome.of(again).differences(Outcome.of(run)) == []


def test_nothing_is_learned_from_oneself(run_job: Run, small_model: Path, tmp_path: Path) -> None:
    keys = {**KEYS, "teacher_model_name_or_path": small_model, "max_steps": 2, "track": "false"}
    run = run_job("distill", tmp_path / "run", **keys)
    assert [row["loss"] for row in log(run / "checkpoint-2")] == pytest.approx([0, 0], abs=1e-4)


def test_a_teacher_that_cannot_teach_is_refused_in_one_line(
    run_job: Run, small_model: Path, tmp_path: Path
) -> None:
    shuffled = shutil.copytree(small_model, tmp_path / "shuffled")
    tokens = json.loads((shuffled / "tokenizer.json").read_text())
    words = tokens["model"]["vocab"]
    words["a"], words["b"] = words["b"], words["a"]
    (shuffled / "tokenizer.json").write_text(json.dumps(tokens))
    wider = shutil.copytree(small_model, tmp_path / "wider")
    config = json.loads((wider / "config.json").read_text())
    (wider / "config.json").write_text(json.dumps({**config, "vocab_size": 128}))
    for teacher, message in (
        ("", "teacher_model_name_or_path is missing"),
        ("/no/such", "teacher '/no/such': no such folder"),
        (shuffled, "has another vocabulary: the student's token 16, 'a', is 17 there"),
        (wider, "has 128 logits, the student"),
    ):
        with pytest.raises(BadInput) as refused:
            run_job("distill", tmp_path / "run", teacher_model_name_or_path=teacher)
        assert message in str(refused.value) and "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_dry_run_makes_no_teacher_and_counts_its_weights(
    run_job: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("SPARKS_CACHE", str(tmp_path / "cache"))
    keys = {"teacher_model_name_or_path": "tiny-teacher", "dry_run": "true"}
    run_job("distill", tmp_path / "run", **keys)
    printed = capsys.readouterr().out
    assert "teacher 3.86 MB" in printed and "nothing was trained" in printed
    assert not (tmp_path / "cache").exists()


def test_fewer_rows_than_a_step_takes_are_refused(run_job: Run, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="3 rows of training data are fewer than the 4 prompts"):
        run_job("distill", tmp_path / "run", dataset_size=3)
