"""One job at a time on a run's folder, whatever becomes of the job before."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from tests.builders.analyses import make_analysis
from tests.builders.paths import REPO
from tracking import BadInput
from tracking.ledger.ledger import Ledger
from tracking.ledger.record import Record
from tracking.model.graph import Graph
from train.commands import track
from train.rewards.scoring import Scorer
from train.run.lock import Lock

processes: Any = multiprocessing.get_context("fork")


def hang(**columns: Any) -> None:
    while True:
        pass


def _hold(folder: Path, scores: bool, sender: Connection) -> None:
    lock = Lock(folder)
    scorer = Scorer("hang", lambda: hang, 60) if scores else None
    sender.send(scorer.process.pid if scorer else 0)
    if scorer:
        scorer(prompts=["p"], completions=["c"])
    time.sleep(60)
    lock.release()


class Holder:
    """Another process that holds a folder's lock; it may wait for a reward meanwhile."""

    def __init__(self, folder: Path, scores: bool = False) -> None:
        receiver, tell = processes.Pipe()
        self.process = processes.Process(target=_hold, args=(folder, scores, tell))
        self.process.start()
        self.scorer = receiver.recv()

    def kill(self) -> None:
        """-9, and only this process."""
        self.process.kill()
        self.process.join()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Holder]:
    held = Holder(tmp_path)
    yield held
    held.kill()


def test_the_second_of_two_jobs_is_told_in_one_line_who_has_the_folder(
    holder: Holder, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=f"in use by process {holder.process.pid} on") as refused:
        Lock(tmp_path)
    assert "\n" not in str(refused.value)
    assert holder.process.is_alive()


def test_a_killed_job_leaves_the_folder_free(holder: Holder, tmp_path: Path) -> None:
    holder.kill()
    with Lock(tmp_path):
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()


def test_a_job_that_is_stopped_but_not_dead_keeps_it(holder: Holder, tmp_path: Path) -> None:
    os.kill(holder.process.pid, signal.SIGSTOP)
    with pytest.raises(BadInput, match="in use"):
        Lock(tmp_path)
    os.kill(holder.process.pid, signal.SIGCONT)


def test_it_is_free_after_release_and_not_before(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    with pytest.raises(BadInput, match="in use"):
        Lock(tmp_path)
    lock.release()
    lock.release()
    Lock(tmp_path).release()


def test_reward_processes_do_not_keep_it_when_the_job_is_killed(tmp_path: Path) -> None:
    holder = Holder(tmp_path, scores=True)
    for _ in range(50):
        held = [os.readlink(path) for path in Path(f"/proc/{holder.scorer}/fd").iterdir()]
        if str(tmp_path / ".lock") not in held:
            break
        time.sleep(0.1)
    else:
        pytest.fail("the scorer's process holds the lock")
    holder.kill()
    with Lock(tmp_path):
        pass


def _fork_and_wait(lock: Lock) -> None:
    lock.release()


def test_a_forked_child_that_releases_it_takes_nothing_from_its_parent(tmp_path: Path) -> None:
    with Lock(tmp_path) as lock:
        child = processes.Process(target=_fork_and_wait, args=(lock,))
        child.start()
        child.join()
        with pytest.raises(BadInput, match="in use"):
            Lock(tmp_path)


def test_only_the_main_process_of_a_job_takes_it(
    holder: Holder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    Lock(tmp_path).release()


def test_sparks_track_sets_nothing_aside_while_a_job_trains(holder: Holder, tmp_path: Path) -> None:
    recipe = REPO / "recipes" / "tiny" / "sft.yaml"
    (tmp_path / "config.yaml").write_text(f"# sparks sft\n{recipe.read_text()}")
    analyses = {"cue": make_analysis(Graph(1, 1))}
    Ledger(tmp_path / "heads").write(Record(0, 1, 1, "ab", analyses, settings={"resamples": 7}))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(BadInput, match=f"in use by process {holder.process.pid}"):
        track.main([str(tmp_path)])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_folder_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"file.* cannot be written"):
        Lock(tmp_path / "file")


@pytest.mark.parametrize("left", ["", "process 1 on a machine that is gone", "\udcff"])
def test_what_a_dead_job_wrote_there_keeps_nobody_out(tmp_path: Path, left: str) -> None:
    begin = time.monotonic()
    (tmp_path / ".lock").write_text(left, errors="surrogateescape")
    with Lock(tmp_path):
        assert time.monotonic() - begin < 1
