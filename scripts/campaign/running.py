"""A job under way in processes of its own."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from accelerate.commands import launch
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from scripts.campaign.variants import Variant
from train.cache import cached

LIMIT = 300.0  # seconds that one job may take; DeepSpeed's first compiles a part of it
EXTENSIONS = cached("torch_extensions")  # what DeepSpeed compiles on a CPU, apart from the user's

# Children are forked from one process that has imported the libraries: that takes seconds.
processes = multiprocessing.get_context("forkserver")
LOADED = "scripts.campaign.loaded"
processes.set_forkserver_preload([LOADED])


class Disturbance(Protocol):
    """What is put into a job before it begins."""

    @property
    def rank(self) -> int:
        """The process of the job that it is put into."""
        ...

    def plant(self) -> None:
        """Put it there, in that process."""
        ...


class Running:
    """A job under way in processes of its own, one per rank; stdout and stderr go to `log`."""

    def __init__(
        self,
        variant: Variant,
        arguments: Sequence[str],
        log: Path,
        fault: Disturbance | None = None,
    ) -> None:
        self.log = log
        shared = launch_environment(variant.launch) if variant.launch else {}
        shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
        self.ranks = []
        for rank in range(variant.ranks):
            world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": variant.ranks}
            variables = {**shared, **{key: str(value) for key, value in world.items()}}
            environment = variables if variant.ranks > 1 else {}
            words = [variant.job, *arguments]
            process = processes.Process(target=_run, args=(words, environment, log, fault))
            process.start()
            self.ranks.append(process)

    def kill(self) -> None:
        """SIGKILL for all its processes, those that score rewards included."""
        for process in self.ranks:
            try:
                os.killpg(process.pid or 0, signal.SIGKILL)
            except ProcessLookupError:  # ended, or too young to have a group
                process.kill()
        for lock in EXTENSIONS.glob(
            "**/lock"
        ):  # one that a killed job held is waited for endlessly
            lock.unlink(missing_ok=True)

    def wait(self, seconds: float = LIMIT) -> int | None:
        """The exit code of the first rank that fails, which ends the others, as torchrun does; 0;
        or None where it has not ended in this time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            codes = [process.exitcode for process in self.ranks]
            failed = [code for code in codes if code]
            if failed:
                self._settle()
                return failed[0]
            if all(code == 0 for code in codes):
                return 0
            multiprocessing.connection.wait(
                [p.sentinel for p in self.ranks if p.exitcode is None], end - time.monotonic()
            )
        return None

    def _settle(self) -> None:
        """Give the other ranks a moment to end by themselves, then none."""
        for process in self.ranks:
            process.join(5 if process.exitcode is None else 0)
        self.kill()
        for process in self.ranks:
            process.join()


def _run(
    words: list[str], environment: dict[str, str], log: Path, fault: Disturbance | None
) -> None:
    os.setsid()
    os.environ.update(environment)
    os.environ.pop("WANDB_SERVICE", None)  # of the process that starts jobs, if it logs itself
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import torch

    from train import cli

    torch.set_num_threads(1)
    if fault is not None and int(os.environ.get("RANK", "0")) == fault.rank:
        fault.plant()
    sys.argv = ["sparks", *words]
    cli.main()


def launch_environment(recipe: Path) -> dict[str, str]:
    """What `accelerate launch --config_file` sets for the processes that it starts; a file that the
    recipe names lies beside it."""
    words = launch.launch_command_parser().parse_args(["--config_file", str(recipe), "sparks"])
    checked: Any = launch._validate_launch_command(words)
    words, defaults, _ = checked
    if words.use_deepspeed:
        words.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
        if words.deepspeed_config_file:
            words.deepspeed_config_file = str(recipe.with_name(words.deepspeed_config_file))
        _, environment = prepare_deepspeed_cmd_env(words)
        environment["TORCH_EXTENSIONS_DIR"] = str(EXTENSIONS)
    else:
        environment = prepare_multi_gpu_env(words)
    ours = ("ACCELERATE_", "FSDP_", "TORCH_EXTENSIONS_DIR")
    return {name: value for name, value in environment.items() if name.startswith(ours)}


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def tail(log: Path, lines: int = 20) -> str:
    """The end of what a job said."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def warm_up() -> None:
    """Import the libraries in the process that all others are forked from; `RuntimeError` where it
    could not, which that process says nothing of."""
    first = processes.Process(target=_check_loaded)
    first.start()
    first.join()
    if first.exitcode:
        raise RuntimeError(f"{LOADED} is not loaded: start in the repository's folder")


def _check_loaded() -> None:
    sys.exit(LOADED not in sys.modules)
