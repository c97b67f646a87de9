"""One process works alone while the others wait, however long; they learn how it ended."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch.distributed as dist

from tests.builders.ranks import LIMIT, in_two
from tracking.errors import BadInput
from tracking.ranks import alone

LONG = 2 * LIMIT.total_seconds()


def test_the_others_wait_longer_than_a_collective_may(tmp_path: Path) -> None:
    done = tmp_path / "done"

    def work(rank: int) -> None:
        with alone(rank == 0) as main:
            if main:
                time.sleep(LONG)
                done.touch()
        assert done.exists()
        dist.barrier()  # training goes on

    assert in_two(tmp_path, work) == [0, 0]


def test_a_process_comes_late_without_harm(tmp_path: Path) -> None:
    def work(rank: int) -> None:
        with alone(rank == 0):
            pass
        time.sleep(LONG * rank)
        with alone(rank == 0) as main:
            assert main == (rank == 0)

    assert in_two(tmp_path, work) == [0, 0]


@pytest.mark.parametrize(
    ("error", "told"),
    [(BadInput("no pairs"), "BadInput: no pairs"), (OSError("full"), "RuntimeError: .*full")],
)
def test_what_is_raised_is_raised_in_all(tmp_path: Path, error: Exception, told: str) -> None:
    kind, _, message = told.partition(": ")
    raised = {"BadInput": BadInput, "RuntimeError": RuntimeError}[kind]

    def work(rank: int) -> None:
        with (
            pytest.raises(raised if rank else type(error), match=message if rank else ""),
            alone(rank == 0) as main,
        ):
            if main:
                raise error
        dist.barrier()

    assert in_two(tmp_path, work) == [0, 0]


@pytest.mark.parametrize("dead", [0, 1])
def test_a_process_that_dies_is_not_waited_for(tmp_path: Path, dead: int) -> None:
    def work(rank: int) -> None:
        begin = time.monotonic()
        with pytest.raises(RuntimeError, match=r"(?i)connection|gloo"), alone(rank == 0):
            if rank == dead:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(1 - rank)  # the main process works
        assert time.monotonic() - begin < 10
        os._exit(0)  # there is nobody left to take leave of

    codes = in_two(tmp_path, work)
    assert codes[dead] == -signal.SIGKILL and codes[1 - dead] == 0


def test_one_process_by_itself_is_alone() -> None:
    with alone(True) as main:
        assert main
