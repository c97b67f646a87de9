"""Processes that train together, forked: a few lines run in each of two."""

import multiprocessing
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist

LIMIT = timedelta(seconds=2)  # of a collective
processes: Any = multiprocessing.get_context("fork")


def in_two(folder: Path, work: Callable[[int], None]) -> list[int | None]:
    """The exit codes of two processes that do `work(rank)` in a group whose collectives may last
    two seconds; None of one that has not ended after a minute."""
    ranks = [processes.Process(target=_run, args=(rank, folder, work)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
    codes = [process.exitcode for process in ranks]
    for process in ranks:
        process.kill()
    return codes


def _run(rank: int, folder: Path, work: Callable[[int], None]) -> None:
    store = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", store, timeout=LIMIT, rank=rank, world_size=2)
    work(rank)
    dist.destroy_process_group()
