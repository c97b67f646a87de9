"""One checkpoint to one record, by several workers on one ledger."""

import multiprocessing
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.builders.analyses import flat, make_analysis
from tests.builders.decoders import make_decoder
from tests.builders.prompt_pairs import make_pairs
from tests.builders.ranks import in_two
from tracking import analysis
from tracking.contrast import analyse_contrast
from tracking.errors import BadInput, Postponed
from tracking.ledger.ledger import Ledger
from tracking.ledger.record import Record
from tracking.ledger.reward import Reward
from tracking.model.graph import Graph
from tracking.ranks import alone
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


def in_batches(folder: Path, size: int = 2, seed: int = 0) -> Worker:
    pairs = {name: make_pairs(7, seed=seed + place) for place, name in enumerate("ab")}
    settings = replace(QUICK, batch_size=size, select="faithfulness=0.8")
    return Worker(Ledger(folder), pairs, settings)


def recorded(folder: Path) -> dict[int, Record]:
    ledger = Ledger(folder)
    return {step: ledger.read(step) for step in ledger.steps()}


def assert_equal(ours: Record, theirs: Record) -> None:
    for contrast in "ab":
        wanted = flat(ours.analyses[contrast])
        for name, value in flat(theirs.analyses[contrast]).items():
            torch.testing.assert_close(value, wanted[name], rtol=0, atol=0, equal_nan=True)


def test_a_record_that_two_processes_make_is_that_of_one(tmp_path: Path) -> None:
    def work(rank: int) -> None:
        mine = in_batches(tmp_path / "two")
        for step in (0, 2):
            model = make_decoder(seed=step)
            with alone(rank == 0, partial(mine.help, model=model)) as main:
                if main:
                    mine.work(step, lambda of=model: of, REWARD, shared=True)
        assert not mine.analysing

    one = in_batches(tmp_path / "one")
    for step in (0, 2):
        one.work(step, lambda seed=step: make_decoder(seed=seed), REWARD, shared=True)
    assert in_two(tmp_path, work) == [0, 0]
    ours, theirs = recorded(tmp_path / "one"), recorded(tmp_path / "two")
    assert [*ours] == [*theirs] == [0, 2]
    for step in ours:
        assert_equal(ours[step], theirs[step])


@pytest.mark.parametrize("rank", [0, 1])
def test_where_memory_runs_out_in_one_process_both_take_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    tried: list[int] = []

    def work(mine: int) -> None:
        def short(*given: Any) -> Any:
            tried.append(given[-1])
            if given[-1] > 2 and mine == rank:
                decoder = given[0].model.layers[0]
                hook = decoder.register_forward_pre_hook(lambda *_: exec("raise MemoryError"))
                try:
                    return analyse_contrast(*given)
                finally:
                    hook.remove()
            return analyse_contrast(*given)

        monkeypatch.setattr(analysis, "analyse_contrast", short)
        worker = in_batches(tmp_path / "heads", size=4)
        model = make_decoder()
        with alone(mine == 0, partial(worker.help, model=model)) as main:
            if main:
                worker.work(0, lambda: model, REWARD, shared=True)
        assert tried == [4, 2, 4, 2]

    assert in_two(tmp_path, work) == [0, 0]
    in_batches(tmp_path / "one").work(0, make_decoder, REWARD)
    assert_equal(recorded(tmp_path / "one")[0], recorded(tmp_path / "heads")[0])


def test_a_process_with_other_pairs_is_no_help_and_the_step_says_so(tmp_path: Path) -> None:
    def work(rank: int) -> None:
        mine = in_batches(tmp_path / "heads", seed=rank)
        with alone(rank == 0, partial(mine.help, model=make_decoder())) as main:
            if main:
                with pytest.raises(RuntimeError, match="process 1 failed: its pairs are"):
                    mine.work(0, make_decoder, REWARD, shared=True)
        assert rank or "process 1" in mine.ledger.marks()[0].message

    assert in_two(tmp_path, work) == [0, 0]


def test_an_analysis_that_is_put_off_lets_the_helpers_go(tmp_path: Path) -> None:
    def work(rank: int) -> None:
        mine, model = in_batches(tmp_path / "heads"), make_decoder()
        layer = model.model.layers[1]
        if rank == 0:  # in the middle of its own pass, and of none that others wait for
            passes = iter(range(100))

            def ask(*_: Any) -> None:
                if next(passes) == 5:
                    mine.postpone()

            layer.register_forward_hook(ask)
        with alone(rank == 0, partial(mine.help, model=model)) as main:
            if main:
                with pytest.raises(Postponed):
                    mine.work(0, lambda: model, REWARD, shared=True)
                assert mine.ledger.marks() == {} and mine.ledger.steps() == []
        with alone(rank == 0):
            pass

    assert in_two(tmp_path, work) == [0, 0]


def test_what_is_asked_while_processes_exchange_is_done_behind_it(tmp_path: Path) -> None:
    mine = worker(tmp_path)
    mine.analysing = True
    with pytest.raises(Postponed), mine.sheltered():
        mine.postpone()
        done = True
    assert done and not mine.analysing
    with mine.sheltered():  # outside an analysis there is nothing to end
        mine.postpone()
