"""A job that is asked to end during an evaluation, and one that fails before it trains."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trl import GRPOTrainer, SFTTrainer

from tracking.errors import BadInput
from train.run.lock import Lock
from train.run.signals import PREEMPTED
from train.run.stop import Stop

RunJob = Callable[..., Path]
EVALUATED = {"eval_strategy": "steps", "track": "false", "save_steps": 4}


def end_at_first_batch(monkeypatch: pytest.MonkeyPatch, trainer: type) -> list[int]:
    """Sends SIGTERM inside the first batch of evaluation; the steps at which batches ran."""
    batches: list[int] = []
    whole = trainer.prediction_step

    def step(self: Any, *arguments: Any, **keys: Any) -> Any:
        batches.append(self.state.global_step)
        if len(batches) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return whole(self, *arguments, **keys)

    monkeypatch.setattr(trainer, "prediction_step", step)
    return batches


@pytest.mark.parametrize(("name", "trainer"), [("sft", SFTTrainer), ("grpo", GRPOTrainer)])
def test_sigterm_ends_an_evaluation_at_its_next_batch(
    run_job: RunJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, trainer: type
) -> None:
    run, batches = tmp_path / "run", end_at_first_batch(monkeypatch, trainer)
    with pytest.raises(Stop, match="asked to end at step 2") as stop:
        run_job(name, run, eval_steps=2, per_device_eval_batch_size=8, **EVALUATED)
    assert stop.value.code == PREEMPTED
    assert batches == [2]
    assert (run / "checkpoint-2/sparks.json").exists()
    run_job(name, run, eval_steps=4, resume_from_checkpoint="latest", accept_changes="true",
            per_device_eval_batch_size=32, **EVALUATED)  # fmt: skip
    assert (run / "checkpoint-4/sparks.json").exists()


def test_sigterm_ends_the_evaluation_before_the_first_step(
    run_job: RunJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = end_at_first_batch(monkeypatch, SFTTrainer)
    with pytest.raises(Stop, match="asked to end at step 0"):
        run_job("sft", tmp_path / "run", eval_steps=2, eval_on_start="true", **EVALUATED)
    assert batches == [0]


@pytest.mark.parametrize("name", ["sft", "grpo"])
def test_a_trainer_that_cannot_be_made_leaves_the_folder_free(
    run_job: RunJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def refuse(*arguments: Any, **keys: Any) -> Any:
        raise BadInput("no trainer today")

    monkeypatch.setattr(f"trl.{name.upper()}Trainer", refuse)
    with pytest.raises(BadInput, match="no trainer today"):
        run_job(name, tmp_path / "run", track="false")
    with Lock(tmp_path / "run"):
        pass


def test_a_run_that_began_meanwhile_is_seen_under_the_lock(
    run_job: RunJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    whole = Lock.__init__

    def late(self: Lock, folder: Path) -> None:
        whole(self, folder)
        (run / "checkpoint-2").mkdir()  # of a job that held the lock until now

    monkeypatch.setattr(Lock, "__init__", late)
    with pytest.raises(BadInput, match="holds another run"):
        run_job("sft", run, track="false")
