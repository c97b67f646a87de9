"""A run that goes on from a checkpoint is rewound to it in W&B, whose arguments are recorded."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb
from transformers import TrainerControl, TrainerState, TrainingArguments
from wandb.errors import CommError

from tests.builders.wandb_files import history
from train import config
from train.config import Job
from train.run.reporting import RowsCallback, begin_wandb, last_row


@pytest.fixture
def job(
    small_words: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Job:
    for name in ("MODE", "RESUME", "RUN_ID"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    job = config.load("sft", small_words("sft", tmp_path / "run", report_to="wandb"))
    config.write(job)
    (job.folder / "wandb-id").write_text("abc")
    (job.folder / "wandb-rows.json").write_text(json.dumps({2: 5, 4: 9}))
    return job


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The calls of `wandb.init`, which reaches no server here; one row it refuses."""
    calls: list[dict[str, Any]] = []
    real = wandb.init

    def init(**arguments: Any) -> wandb.Run:
        calls.append(arguments)
        if arguments["resume_from"] == "abc?_step=5":
            raise CommError("it has no rewinding")
        return real(mode="disabled")

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb, "teardown", lambda: None)
    return calls


def how(call: dict[str, Any]) -> tuple[Any, Any, Any]:
    return call["id"], call["resume"], call["resume_from"]


def test_a_resumed_run_is_rewound_to_its_checkpoint(job: Job, asked: list) -> None:
    begin_wandb(job, 4)
    assert [how(call) for call in asked] == [("abc", None, "abc?_step=9")]


@pytest.mark.parametrize("step", [0, 3])
def test_what_is_not_known_of_rows_is_not_rewound(job: Job, asked: list, step: int) -> None:
    begin_wandb(job, step)
    assert [how(call) for call in asked] == [("abc", "allow", None)]


def test_what_the_user_says_of_resuming_wins(
    job: Job, asked: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_RESUME", "must")
    begin_wandb(job, 4)
    assert [how(call) for call in asked] == [("abc", "must", None)]


def test_a_server_that_cannot_rewind_is_told(
    job: Job, asked: list, caplog: pytest.LogCaptureFixture
) -> None:
    begin_wandb(job, 2)
    assert [how(call) for call in asked] == [
        ("abc", None, "abc?_step=5"),
        ("abc", "allow", None),
    ]
    assert "it has no rewinding; not rewound: rows after step 2 stand there twice" in caplog.text


def test_offline_it_is_told_that_nothing_is_rewound(
    job: Job, asked: list, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    begin_wandb(job, 4)
    assert [how(call) for call in asked] == [("abc", "allow", None)]
    assert "W&B is offline and not rewound: rows after step 4 stand there twice" in caplog.text


def test_the_last_row_of_a_checkpoint_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    args = TrainingArguments(str(tmp_path), report_to=["wandb"], use_cpu=True)
    state, callback = TrainerState(), RowsCallback()
    with wandb.init(mode="offline", dir=str(tmp_path)) as run:
        folder = Path(run.dir).parent
        for step in (1, 2, 3, 4):
            run.log({"loss": 0.5, "train/global_step": step})
            state.global_step = step
            if step % 2 == 0:
                run.log({"heads/weak": 0, "train/global_step": step})
                callback.on_save(args, state, TrainerControl())
    rows = [row["train/global_step"] for row in history(folder)]
    for step in (2, 4):
        row = last_row(tmp_path, step)
        assert row is not None and rows[: row + 1] == [at for at in rows if at <= step]
    assert last_row(tmp_path, 3) is None
