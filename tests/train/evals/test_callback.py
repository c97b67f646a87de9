"""Benchmarks while a small job trains: nothing of the training changes, nothing stops it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.builders.wandb_files import history
from tracking import BadInput
from train.evals.estimates import solved as solved_by_step
from train.evals.responses import read

ASKED = {"eval_benchmarks": ["tiny-easy", "tiny-hard"], "eval_benchmarks_limit": 5, "no_track": []}


def weights(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["grpo", "sft"])
def test_a_run_has_the_same_weights_with_and_without(
    name: str, tmp_path: Path, run_job: Callable[..., Path]
) -> None:
    solved = run_job(name, tmp_path / "solved", **ASKED, eval_benchmarks_tokens=8)
    plain = run_job(name, tmp_path / "plain", no_track=[])
    assert weights(solved) == weights(plain)
    steps = [f"step-{step:08}" for step in (0, 2, 4)]
    assert sorted(path.name for path in (solved / "evals").iterdir()) == steps
    for step in steps:
        rows = read(solved / "evals" / step)
        assert len(rows) == 2 * 5 * 4 and rows["right"].notna().all()
        assert rows["length"].max() <= 8
        summary = pd.read_parquet(solved / "evals" / step / "summary.parquet")
        assert list(summary["benchmark"]) == ["tiny-easy", "tiny-hard"]
    by_step = solved_by_step(solved)
    assert [*by_step] == [0, 2, 4] and by_step[4][1].startswith("tiny-hard 0.")


def test_only_every_second_checkpoint_is_evaluated(
    tmp_path: Path, run_job: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_job("grpo", tmp_path / "run", **ASKED, eval_benchmarks_every=2)
    assert sorted(path.name[-1] for path in (run / "evals").iterdir()) == ["0", "4"]
    printed = capsys.readouterr().out
    assert "step 4 solves tiny-easy 0." in printed and "step 2" not in printed


def test_accuracy_goes_to_wandb_and_tensorboard_by_step(
    tmp_path: Path, run_job: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = run_job("grpo", tmp_path / "run", **ASKED, report_to="wandb,tensorboard")
    wandb.finish()
    shown = EventAccumulator(str(run / "runs" / "benchmarks"))
    shown.Reload()
    (kept,) = (run / "wandb").glob("offline-run-*")
    rows = [row for row in history(kept) if "eval/tiny-hard/avg@4" in row]
    assert [row["train/global_step"] for row in rows] == [0, 2, 4]
    for row in rows:
        low, high = row["eval/tiny-hard/avg@4_lo"], row["eval/tiny-hard/avg@4_hi"]
        assert low <= row["eval/tiny-hard/avg@4"] <= high
    for name in ("eval/tiny-hard/avg@4", "eval/tiny-hard/avg@4_lo", "eval/tiny-easy/avg@4_hi"):
        events = {event.step: event.value for event in shown.Scalars(name)}
        wanted = {row["train/global_step"]: row[name] for row in rows}
        assert events == pytest.approx(wanted)


def test_a_resumed_run_keeps_what_there_is(tmp_path: Path, run_job: Callable[..., Path]) -> None:
    run = run_job("grpo", tmp_path / "run", **ASKED)
    parts = {path: path.stat().st_mtime_ns for path in run.glob("evals/*/responses/*")}
    again: dict[str, Any] = {**ASKED, "eval_benchmarks_samples": 5}
    run_job("grpo", run, **again, resume_from_checkpoint="latest", max_steps=6, accept_changes=[])
    assert (
        parts.items() <= {p: p.stat().st_mtime_ns for p in run.glob("evals/*/responses/*")}.items()
    )
    assert len(read(run / "evals" / "step-00000006")) == 2 * 5 * 5


def test_responses_of_weights_that_are_gone_are_put_aside(
    tmp_path: Path, run_job: Callable[..., Path]
) -> None:
    stale = tmp_path / "run" / "evals" / "step-00000002"
    stale.mkdir(parents=True)
    (stale / "settings.json").write_text(json.dumps({"model": "gone", "weights": "others"}))
    run = run_job("grpo", tmp_path / "run", **ASKED)
    assert len(read(stale)) == 40
    assert (run / "superseded" / "evals-step-00000002" / "settings.json").exists()


def test_a_failure_is_told_and_training_goes_on(
    tmp_path: Path, run_job: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "evals").write_text("in the way")
    run = run_job("grpo", tmp_path / "run", **ASKED)
    assert (run / "model.safetensors").exists()
    assert "step 2: its benchmarks failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"eval_benchmarks": ["tiny-midle"]}, "unknown benchmark 'tiny-midle'"),
        ({"eval_benchmarks_every": 0}, "eval_benchmarks_every is 0"),
        ({"eval_benchmarks_samples": 0}, "samples is 0"),
        ({"eval_benchmarks_tokens": 500}, "max_new_tokens is 500, but the longest"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_training(
    keys: dict, message: str, tmp_path: Path, run_job: Callable[..., Path]
) -> None:
    with pytest.raises(BadInput, match=message):
        run_job("grpo", tmp_path / "run", **{**ASKED, **keys})
    assert not any((tmp_path / "run").glob("checkpoint-*"))
