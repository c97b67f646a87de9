"""One process works alone while the others wait, however long, or lend it a hand; all learn how it
ended."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch.distributed as dist

from tests.builders.ranks import LIMIT, in_two
from tracking.errors import BadInput
from tracking.ranks import NoRoom, PeerFailed, Peers, alone

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
    ("error", "line"),
    [(BadInput("no pairs"), "BadInput: no pairs"), (OSError("full"), "RuntimeError: .*full")],
)
def test_what_is_raised_is_raised_in_all(tmp_path: Path, error: Exception, line: str) -> None:
    kind, _, message = line.partition(": ")
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


def both() -> Peers:
    peers = Peers.of_world()
    assert peers is not None
    return peers


def test_batches_are_run_by_their_owners_and_given_to_all_in_order(tmp_path: Path) -> None:
    def work(rank: int) -> None:
        peers, ran = both(), []
        with peers.together():
            given = list(peers.each([0, 1, 0, 1, 0], lambda at: ran.append(at) or (at, rank)))
            assert peers.of_main(lambda: rank) == 0
            assert list(peers.each([], lambda at: at)) == []
        assert ran == [[0, 2, 4], [1, 3]][rank]
        assert given == [(at, (at, at % 2)) for at in range(5)]

    assert in_two(tmp_path, work) == [0, 0]


@pytest.mark.parametrize("where", ["in a share", "between", "at the end"])
@pytest.mark.parametrize("fails", [0, 1])
def test_what_one_raises_ends_it_for_all_who_can_go_on_with_other_work(
    tmp_path: Path, fails: int, where: str
) -> None:
    def work(rank: int) -> None:
        peers = both()

        def share(number: int) -> int:
            if rank == fails and where == "in a share" and number > 1:
                raise OSError("disk full")
            return number

        with pytest.raises((OSError, PeerFailed), match="disk full") as caught, peers.together():
            list(peers.each([0, 1, 0, 1], share))
            if rank == fails and where == "between":
                raise OSError("disk full")
            if where != "at the end":
                list(peers.each([0, 1], share))
            elif rank == fails:
                raise OSError("disk full")
        assert isinstance(caught.value, OSError) == (rank == fails)
        with peers.together():
            assert peers.gathered(lambda: rank) == [0, 1]
        dist.barrier()

    assert in_two(tmp_path, work) == [0, 0]


@pytest.mark.parametrize("fails", [0, 1])
def test_where_memory_runs_out_in_one_both_try_again_with_less(tmp_path: Path, fails: int) -> None:
    def work(rank: int) -> None:
        peers = both()

        def share(number: int) -> int:
            if rank == fails:
                raise MemoryError("no room")
            return number

        with peers.together():
            with pytest.raises(NoRoom, match=r"no room"):
                list(peers.each([0, 1, 0, 1], share))
            assert list(peers.each([0, 1], lambda number: number)) == [(0, 0), (1, 1)]

    assert in_two(tmp_path, work) == [0, 0]


def test_the_others_come_when_they_are_asked_and_wait_again(tmp_path: Path) -> None:
    def work(rank: int) -> None:
        helped = []

        def help(asked: int) -> None:
            helped.append(asked)
            peers = both()
            with peers.together():
                peers.gathered(lambda: rank)
                if asked == 2:
                    raise OSError("the main process hears of it")

        with alone(rank == 0, help) as main:
            if main:
                peers = both()
                for asked in (1, 2, 3):
                    try:
                        with peers.together(asked):
                            assert peers.gathered(lambda: rank) == [0, 1]
                    except PeerFailed as error:
                        assert asked == 2 and "hears of it" in str(error)
        assert helped == [[], [1, 2, 3]][rank]
        dist.barrier()

    assert in_two(tmp_path, work) == [0, 0]


@pytest.mark.parametrize("dead", [0, 1])
def test_a_helper_or_the_helped_that_dies_is_not_waited_for(tmp_path: Path, dead: int) -> None:
    def work(rank: int) -> None:
        def share(number: int) -> int:
            if rank == dead and number > 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return number

        def help(asked: str) -> None:
            peers = both()
            with peers.together(asked):
                list(peers.each([0, 1, 0, 1], share))

        begin = time.monotonic()
        with pytest.raises(RuntimeError, match=r"(?i)connection"), alone(rank == 0, help) as main:
            if main:
                help("share")
        assert time.monotonic() - begin < 10
        os._exit(0)

    codes = in_two(tmp_path, work)
    assert codes[dead] == -signal.SIGKILL and codes[1 - dead] == 0
