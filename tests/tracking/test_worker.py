"""One checkpoint to one record, by several workers on one ledger."""

import multiprocessing
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.builders.analyses import make_analysis
from tests.builders.decoders import make_decoder
from tests.builders.prompt_pairs import make_pairs
from tracking.errors import BadInput
from tracking.ledger.ledger import Ledger
from tracking.ledger.record import Record
from tracking.ledger.reward import Reward
from tracking.model.graph import Graph
from tracking.settings import Settings
from tracking.worker import Worker

QUICK = Settings(ig_steps=2, max_ig_steps=2, resamples=10)
REWARD = Reward(0.5, "reward")


def worker(folder: Path, **more: Any) -> Worker:
    return Worker(Ledger(folder), {"pairs": make_pairs()}, QUICK, **more)


def test_a_step_is_analysed_once_and_the_tables_follow(tmp_path: Path) -> None:
    mine = worker(tmp_path)
    record = mine.work(0, make_decoder, REWARD)
    assert record is not None and record.reward == 0.5 and record.thresholds["share"] == 0.05
    assert mine.work(0, make_decoder, REWARD) is None
    timeline = mine.derive()
    heads = pd.read_parquet(mine.ledger.timeline_path)
    counts = pd.read_parquet(mine.ledger.counts_path)
    assert list(heads) == list(timeline.nodes) and counts["reward"].tolist() == [0.5]
    assert sorted(path.name for path in tmp_path.glob(".claim-*")) == []


def test_a_failure_is_marked_and_raised_and_the_step_is_free_again(tmp_path: Path) -> None:
    mine = worker(tmp_path)

    def broken() -> Any:
        raise RuntimeError("no such weights")

    with pytest.raises(RuntimeError, match="no such weights"):
        mine.work(4, broken, REWARD)
    assert mine.ledger.marks()[4].message == "RuntimeError: no such weights"
    assert mine.work(4, make_decoder, REWARD) is not None
    assert mine.ledger.marks() == {}


def _hold(folder: Path, step: int, ready: Any, until: Any) -> None:
    with Ledger(folder).claim(step) as claimed:
        assert claimed
        ready.set()
        until.wait(30)


def test_a_step_that_another_process_claims_is_left_to_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready, until = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, 3, ready, until))
    other.start()
    assert ready.wait(30)
    mine = worker(tmp_path)
    assert mine.work(3, make_decoder, REWARD) is None
    assert mine.work(6, make_decoder, REWARD) is not None
    until.set()
    other.join()
    assert mine.work(3, make_decoder, REWARD) is not None
    assert mine.ledger.steps() == [3, 6]


def test_a_claim_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready, until = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, 3, ready, until))
    other.start()
    assert ready.wait(30)
    other.kill()
    other.join()
    began = time.monotonic()
    with Ledger(tmp_path).claim(3) as claimed:
        assert claimed
    assert time.monotonic() - began < 10


def test_what_cannot_be_analysed_is_refused_before(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no prompt pairs"):
        Worker(Ledger(tmp_path), {}, QUICK).check(make_decoder())


def test_what_is_no_longer_the_runs_leaves_no_record(tmp_path: Path) -> None:
    mine = worker(tmp_path)
    assert mine.work(3, make_decoder, REWARD, current=lambda: False) is None
    assert mine.ledger.steps() == [] and mine.ledger.marks() == {}
    assert mine.work(3, make_decoder, REWARD, current=lambda: True) is not None


def test_a_failure_of_what_is_no_longer_the_runs_is_none(tmp_path: Path) -> None:
    mine = worker(tmp_path)

    def gone() -> Any:
        raise FileNotFoundError("moved aside")

    assert mine.work(3, gone, REWARD, current=lambda: False) is None
    assert mine.ledger.marks() == {}


@pytest.mark.parametrize(
    ("size", "nodes", "recorded", "wanted"),
    [
        (5, 8, (0, 4), [0, 2, 4, 6, 8]),  # step 0 has settled all that later records take over
        (0, 8, (0, 4), [0, 2]),  # no record before the gap has a size
        (5, 65, (0, 4), [0, 2, 4, 6, 8]),  # what 2 measures, 6 waits for
        (0, 8, (0, 2, 4), [0, 2, 4, 6]),
        (5, 8, (), [0]),
    ],
)
def test_a_step_is_in_turn_where_no_earlier_record_could_change_its_own(
    tmp_path: Path, size: int, nodes: int, recorded: tuple[int, ...], wanted: list[int]
) -> None:
    mine, graph = worker(tmp_path), Graph(1, nodes - 1)
    for step in recorded:
        analysis = make_analysis(graph, size=size)
        mine.ledger.write(Record(step, 1, nodes - 1, "0", {"pairs": analysis}))
    steps = (0, 2, 4, 6, 8)
    lacking = [step for step in steps if step not in recorded]
    assert [step for step in steps if mine.in_turn(step, lacking)] == wanted
