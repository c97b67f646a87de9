"""What goes wrong around a job that trains: W&B dies, or is out of reach."""

import os
import signal
from dataclasses import dataclass
from typing import Any

import psutil
from transformers import TrainerCallback

from train import prepare


class _Killer(TrainerCallback):
    def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        if state.global_step == 1:
            for process in psutil.Process().children(recursive=True):
                if "wandb-core" in process.name():
                    os.kill(process.pid, signal.SIGKILL)
                    process.wait()
                    print("wandb-core is killed")


@dataclass(frozen=True)
class WandbKilled:
    """W&B's own process is killed after the first step."""

    rank: int = 0

    def plant(self) -> None:
        os.environ["WANDB_MODE"] = "offline"
        shield = prepare.shield

        def with_killer(trainer: Any) -> None:
            trainer.add_callback(_Killer())
            shield(trainer)

        prepare.shield = with_killer


@dataclass(frozen=True)
class WandbUnreachable:
    """Nobody answers where W&B is looked for."""

    rank: int = 0

    def plant(self) -> None:
        os.environ.pop("WANDB_MODE", None)
        there = {"API_KEY": "0" * 40, "BASE_URL": "http://127.0.0.1:9", "INIT_TIMEOUT": "1"}
        os.environ.update({f"WANDB_{name}": value for name, value in there.items()})
