"""Workers at several checkpoints of one run measure what they would have measured one by one."""

import multiprocessing
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from scripts.control.crossed import DIRECT, crossed, pairs_of
from scripts.control.models import write_of
from tracking import contrast
from tracking.ledger.ledger import Ledger
from tracking.ledger.record import Record
from tracking.ledger.reward import Reward
from tracking.ledger.screens import OutOfTurn, Screens
from tracking.model.decoder import Decoder
from tracking.settings import Settings
from tracking.timeline.activity import Thresholds
from tracking.worker import Worker

SETTINGS = Settings(ig_steps=2, max_ig_steps=2, resamples=10, screen=1)
FEW = Thresholds(share=0.1)  # nodes are likely
REWARD = Reward(None, "loss")
STEPS = (0, 2, 4, 6)


@pytest.fixture(autouse=True)
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """These models have many nodes, and none is measured by chance."""
    monkeypatch.setattr(contrast, "ALL_NODES", 4)
    monkeypatch.setattr(contrast, "SAMPLE", 0)


def model_at(step: int) -> Any:
    """At each step another head writes more, and the one before as at first."""
    model = crossed(0)
    if step:
        write_of(model, DIRECT[STEPS.index(step) - 1]).mul_(4)
    return model


def worker(folder: Path) -> Worker:
    return Worker(Ledger(folder), {"pairs": pairs_of(8)}, SETTINGS, FEW)


def work(folder: Path, step: int, awaited: tuple[int, ...] = ()) -> Record | None:
    """Make a step's record."""
    return worker(folder).work(step, lambda: model_at(step), REWARD, awaited=awaited)


def chosen(ledger: Ledger, step: int) -> list[bool]:
    return ledger.read(step).analyses["pairs"].nodes.chosen.tolist()


def tensors(ledger: Ledger, step: int) -> dict[str, bytes]:
    """All figures of a record, to the bit."""
    file = load_file(ledger.path(step))
    return {name: tensor.numpy().tobytes() for name, tensor in file.items()}


def test_records_made_at_once_are_those_made_one_by_one(tmp_path: Path) -> None:
    alone, shared = Ledger(tmp_path / "alone"), Ledger(tmp_path / "shared")
    for step in STEPS:
        work(alone.folder, step)
    work(shared.folder, 0)
    context = multiprocessing.get_context("fork")
    processes = []
    for place, step in enumerate(STEPS[1:], 1):
        one = context.Process(target=work, args=(shared.folder, step, STEPS[1:place]))
        one.start()
        processes.append(one)
        while one.is_alive() and not shared.claimed(step):
            time.sleep(0.01)
    for one in processes:
        one.join(60)
    assert all(tensors(shared, step) == tensors(alone, step) for step in STEPS)
    assert [sum(chosen(alone, step)) for step in STEPS] == [4, 5, 6, 7]
    assert list(shared.folder.glob(".*-0*")) == []


@pytest.mark.parametrize("honest", [True, False])
def test_what_was_heard_is_held_against_the_record(tmp_path: Path, honest: bool) -> None:
    """Another's failure, or a run that was resumed meanwhile, leaves no trace in a record."""
    ledger, ours = Ledger(tmp_path), Screens(Ledger(tmp_path), 4, (2,))
    work(tmp_path, 0)
    reported = torch.zeros(15, dtype=torch.bool)
    reported[Decoder.of(crossed(0)).graph.nodes.index(DIRECT[0] if honest else "M0")] = True
    with ledger.claim(2):
        Screens(ledger, 2).exchange("pairs", reported)
        assert torch.equal(ours.exchange("pairs", torch.zeros_like(reported)), reported)
    assert work(tmp_path, 2) is not None
    analyses = ledger.read(2).analyses
    if honest:
        ours.confirm(analyses)
    else:
        with pytest.raises(OutOfTurn, match="the record of step 2 is not what its worker said"):
            ours.confirm(analyses)
    with pytest.raises(OutOfTurn):  # what it measured is not measured here
        ours.confirm(ledger.read(0).analyses)


def test_a_step_that_its_worker_gives_up_is_not_waited_for(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    work(tmp_path, 0)
    Screens(ledger, 2).exchange("pairs", torch.ones(15, dtype=torch.bool))  # then it was killed
    with pytest.raises(OutOfTurn, match="step 2"):
        work(tmp_path, 4, awaited=(2,))
    assert ledger.steps() == [0] and ledger.marks() == {} and not ledger.claimed(4)
    assert work(tmp_path, 2) is not None and work(tmp_path, 4, awaited=(2,)) is not None


def test_what_a_killed_worker_left_is_gone_before_its_step_is_made(tmp_path: Path) -> None:
    ledger, seen = Ledger(tmp_path), []

    def load() -> Any:
        seen.extend(tmp_path.glob(".screen-*"))
        return model_at(2)

    Screens(ledger, 2).exchange("pairs", torch.ones(15, dtype=torch.bool))
    worker(tmp_path).work(2, load, REWARD)
    assert seen == [] and list(tmp_path.glob(".screen-*")) == []


def test_what_was_said_before_a_run_is_resumed_is_gone(tmp_path: Path) -> None:
    ledger, every = Ledger(tmp_path), torch.ones(15, dtype=torch.bool)
    Screens(ledger, 2).exchange("pairs", every)
    assert ledger.screen_path(2).exists()
    ledger.supersede(after=0)
    assert not ledger.screen_path(2).exists()
