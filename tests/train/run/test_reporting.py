"""W&B that cannot be reached, or dies, costs its own curves and nothing of the run."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders.paths import REPO
from tracking import Ledger

Run = Callable[..., Path]


KILLER = """
import os, signal, sys
import psutil
from transformers import TrainerCallback
from train import cli
from train.run import reporting

class Killer(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 1:
            for process in psutil.Process().children(recursive=True):
                if "wandb-core" in process.name():
                    os.kill(process.pid, signal.SIGKILL)
                    process.wait()
                    print("killed")

shield = reporting.shield
def with_killer(trainer):
    trainer.add_callback(Killer())
    shield(trainer)
reporting.shield = with_killer
cli.main()
"""


def alone(script: str, words: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """A job in a process of its own: W&B keeps what it was first told in each."""
    own = {name: value for name, value in os.environ.items() if "WANDB" not in name}
    return subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True,
        env={**own, **environment, "PYTHONPATH": str(REPO)},
    )  # fmt: skip


@pytest.mark.slow
def test_w_and_b_s_process_killed_stops_no_training(
    run_job: Run, small_words: Callable[..., list[str]], tmp_path: Path
) -> None:
    keys = {"log_completions": "true", "logging_steps": 1}
    plain, run = run_job("grpo", tmp_path / "plain", **keys), tmp_path / "run"
    words = small_words("grpo", run, report_to="wandb", **keys)
    told = alone(KILLER, ["grpo", *words], WANDB_MODE="offline")
    assert told.returncode == 0, (told.returncode, told.stderr)
    assert "killed" in told.stdout
    assert told.stderr.count("wandb failed") == 1
    assert Ledger(run / "heads").steps() == [0, 2, 4]
    models = [(folder / "model.safetensors").read_bytes() for folder in (plain, run)]
    assert models[0] == models[1]


@pytest.mark.slow
def test_w_and_b_out_of_reach_is_kept_offline(
    small_words: Callable[..., list[str]], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    told = alone(
        "from train.cli import main; main()",
        ["sft", *small_words("sft", run, report_to="wandb", max_steps=2)],
        WANDB_API_KEY="0" * 40,
        WANDB_BASE_URL="http://127.0.0.1:9",
        WANDB_INIT_TIMEOUT="1",
    )
    assert told.returncode == 0, (told.returncode, told.stderr)
    assert "cannot be reached, the run is kept offline" in told.stderr
    assert len(list(run.glob("wandb/offline-run-*"))) == 1
    assert Ledger(run / "heads").steps() == [0, 2]
