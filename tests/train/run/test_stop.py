"""A job that is asked to end, or cannot go on, leaves a run that can be resumed, and says so."""

import json
import math
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerState

from scripts.campaign.campaign import Campaign
from scripts.campaign.faults import Fault, Place
from scripts.campaign.outcome import Outcome
from scripts.campaign.running import processes, tail
from scripts.campaign.variants import LORA, Variant
from tests.builders.campaigns import GRPO, KEPT, SFT
from tests.builders.paths import REPO, TINY
from tests.builders.second_device import OnCuda
from tracking import BadInput, Ledger, contrast
from train import model
from train.run import resume
from train.run.folder import preempted
from train.run.manifest import Manifest
from train.run.signals import PREEMPTED, SIGNALS, heed
from train.run.stop import FiniteWeightsCallback, PreemptionCallback, Stop

Run = Callable[..., Path]
SHORT: dict[str, object] = {"max_steps": 4}
BOTH = Variant("sft, 2 processes", "sft", SHORT, ranks=2)
ADAPTED = Variant("grpo, LoRA", "grpo", {**GRPO.keys, **LORA, **SHORT})
STEP_END = Place(PreemptionCallback, "on_step_end")
ANALYSIS = Place(contrast, "attributed")


def trained(run: Path) -> dict[str, str]:
    """What training alone makes: weights, the state of the optimizer and so on, and the log."""
    kept = Outcome.of(run).hashes.items()
    return {name: value for name, value in kept if name != "timeline" and "record" not in name}


# Asked to end


@pytest.mark.parametrize(
    ("variant", "number"),
    [(SFT, signal.SIGTERM), (KEPT, signal.SIGUSR1), (ADAPTED, signal.SIGTERM)],
    ids=lambda value: str(getattr(value, "name", value)),
)
def test_a_job_asked_to_end_saves_and_leaves_the_analysis_for_later(
    campaign: Campaign, tmp_path: Path, variant: Variant, number: signal.Signals
) -> None:
    whole, run = campaign.undisturbed(variant), tmp_path / "run"
    last = max(whole.steps)
    step = random.Random(variant.name).randrange(2, last)
    asked = Fault("", STEP_END, step, number=number)
    job = campaign.world.start(variant, run, asked)
    assert job.wait() == PREEMPTED
    at = step + step % 2 if variant is KEPT else step  # generations last two steps
    assert max(resume.complete(run)) == at
    message = f"sparks: asked to end at step {at}; go on with --resume_from_checkpoint latest"
    assert tail(job.log, 1) == message
    ledger = Ledger(run / "heads")
    assert at not in ledger.steps()
    assert ledger.marks()[at].why == "preempted"
    assert preempted(run).exists()
    assert campaign.world.start(variant, run).wait() == 0
    assert ledger.marks() == {} and not preempted(run).exists()
    assert {*ledger.steps()} == {*whole.steps, at}
    assert trained(run) == trained(campaign.folder(variant))


@pytest.mark.parametrize(
    "where", [ANALYSIS, Place(Ledger, "write"), Place(torch, "save")], ids=lambda where: where.name
)
def test_a_signal_inside_an_analysis_or_a_save_harms_nothing(
    campaign: Campaign, tmp_path: Path, where: Place
) -> None:
    run, save = tmp_path / "run", where.name == "save"
    asked = Fault("", where, 5 if save else 3, number=signal.SIGTERM)
    job = campaign.world.start(SFT, run, asked)
    assert job.wait() == PREEMPTED, tail(job.log)
    whole, ledger = campaign.undisturbed(SFT), Ledger(run / "heads")
    at = max(resume.complete(run))
    writing = where.owner is Ledger  # a record that is made is written
    assert [*ledger.marks()] == ([] if writing else [at])
    assert (at in ledger.steps()) == writing
    assert campaign.world.start(SFT, run).wait() == 0
    assert ledger.marks() == {}
    changed = Outcome.of(run).differences(whole)
    assert changed == []


def test_a_signal_before_the_first_step_leaves_nothing_to_repeat(
    campaign: Campaign, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    asked = Fault("", ANALYSIS, 1, number=signal.SIGUSR1)
    job = campaign.world.start(SFT, run, asked)
    assert job.wait() == PREEMPTED
    assert tail(job.log, 1) == "sparks: asked to end before the first step"
    assert resume.complete(run) == {}
    assert campaign.world.start(SFT, run).wait() == 0
    assert Outcome.of(run).differences(campaign.undisturbed(SFT)) == []


def test_all_processes_save_together_where_only_one_is_asked(
    campaign: Campaign, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    asked = Fault("", STEP_END, 3, number=signal.SIGTERM, rank=1)
    job = campaign.world.start(BOTH, run, asked)
    job.wait()
    assert [rank.exitcode for rank in job.ranks] == [PREEMPTED, PREEMPTED], tail(job.log)
    assert campaign.world.start(BOTH, run).wait() == 0
    whole = campaign.undisturbed(BOTH)
    assert {*Ledger(run / "heads").steps()} >= {*whole.steps}
    assert trained(run) == trained(campaign.folder(BOTH))


def test_handlers_are_as_before_when_a_job_has_ended(run_job: Run, tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    run_job("sft", tmp_path / "run", max_steps=2, track="false")
    with pytest.raises(Stop):
        run_job("sft", tmp_path / "diverged", learning_rate=1e38, track="false")
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_signal_while_the_job_is_made_ready_ends_it_at_once(
    campaign: Campaign, tmp_path: Path
) -> None:
    asked = Fault("", Place(model, "start"), 1, number=signal.SIGTERM)
    job = campaign.world.start(SFT, tmp_path / "run", asked)
    assert job.wait() == PREEMPTED
    assert tail(job.log, 1) == "sparks: asked to end before the first step"


def _forks_and_terminates() -> None:
    heed()
    context = multiprocessing.get_context("fork")
    child = context.Process(target=time.sleep, args=(60,))
    child.start()
    time.sleep(0.5)
    child.terminate()
    child.join()
    sys.exit(0 if child.exitcode == -signal.SIGTERM else 1)


def test_workers_of_a_job_made_ready_are_terminated_without_a_word() -> None:
    job = processes.Process(target=_forks_and_terminates)
    job.start()
    job.join()
    assert job.exitcode == 0


# Diverged


def test_weights_that_are_no_longer_finite_end_the_job_and_are_not_kept(
    campaign: Campaign, tmp_path: Path
) -> None:
    run, keys = tmp_path / "run", {"learning_rate": 1e30, "save_steps": 1}
    job = campaign.world.start(Variant("", "sft", keys), run)
    assert job.wait() == 1
    last = tail(job.log, 1)
    assert last.startswith("sparks: the weights are not finite at step ")
    saved = resume.complete(run)
    assert saved and max(saved) < int(last.split("step ")[1].partition(":")[0])
    for path in saved.values():
        weights = load_file(path / "model.safetensors").values()
        assert all(weight.isfinite().all() for weight in weights)
    assert max(Ledger(run / "heads").steps()) <= max(saved)


@pytest.mark.parametrize("value", [1.0, math.nan])
def test_weights_may_lie_on_several_devices(value: float) -> None:
    model: Any = SimpleNamespace(
        parameters=lambda: iter([OnCuda(torch.ones(2)), OnCuda(torch.tensor(value), 1)])
    )
    ends = nullcontext() if value == 1 else pytest.raises(Stop, match="not finite at step 0")
    with ends:
        FiniteWeightsCallback()._check(TrainerState(), model)


def test_a_run_that_diverged_goes_on_at_another_rate(campaign: Campaign, tmp_path: Path) -> None:
    campaign.undisturbed(SFT)
    run = tmp_path / "run"
    wild = {"learning_rate": 1e30}
    assert campaign.world.start(Variant("", "sft", {"max_steps": 2}), run).wait() == 0
    accept: dict[str, object] = {"accept_changes": "true"}
    job = campaign.world.start(Variant("", "sft", {**wild, **accept}), run)
    assert job.wait() == 1
    assert "not finite" in tail(job.log, 1)
    assert list(resume.complete(run)) == [2]
    job = campaign.world.start(SFT, run)
    assert job.wait() == 2 and "max_steps was 2, is 6" in tail(job.log, 1)
    assert campaign.world.start(Variant("", "sft", accept), run).wait() == 0
    assert trained(run) == trained(campaign.folder(SFT))


# No room


def test_a_disk_that_is_full_within_a_checkpoint_ends_the_job_in_one_line(
    campaign: Campaign, tmp_path: Path
) -> None:
    whole, run = campaign.undisturbed(SFT), tmp_path / "run"
    finished = campaign.folder(SFT) / "checkpoint-2"
    sizes = [(finished / name).stat().st_size for name in ("model.safetensors", "optimizer.pt")]
    assert sizes[0] < sizes[1]
    job = campaign.world.start(SFT, run)
    limit = sum(sizes) // 2
    resource.prlimit(job.ranks[0].pid, resource.RLIMIT_FSIZE, (limit, limit))
    assert job.wait() == 1
    message = f"sparks: the disk is full: {run} cannot be written; go on with"
    assert tail(job.log, 1).startswith(message), tail(job.log)
    assert "Traceback" not in job.log.read_text()
    assert resume.complete(run) == {}
    assert campaign.world.start(SFT, run).wait() == 0
    assert Outcome.of(run).differences(whole) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_costs_only_what_was_not_saved(
    campaign: Campaign, small_disk: Path, tmp_path: Path
) -> None:
    run = small_disk / "run"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(380_000))
    job = campaign.world.start(SFT, run)
    code = job.wait()
    assert (code, "the disk is full" in tail(job.log, 1)) == (1, True), tail(job.log)
    assert "Traceback" not in job.log.read_text()
    assert 6 not in resume.complete(run)
    ballast.unlink()
    moved = shutil.copytree(run, tmp_path / "run")
    assert campaign.world.start(SFT, moved).wait() == 0
    assert Outcome.of(moved).differences(campaign.undisturbed(SFT)) == []


def test_a_disk_without_room_for_a_checkpoint_is_told_before_training(
    run_job: Run, small_disk: Path
) -> None:
    (small_disk / "ballast").write_bytes(bytes(980_000))
    with pytest.raises(BadInput, match="GB are free, a checkpoint takes") as refused:
        run_job("sft", small_disk / "run", track="false")
    assert "\n" not in str(refused.value)
    assert not list((small_disk / "run").glob("checkpoint-*"))


def test_a_finished_model_says_how_far_it_was_trained(campaign: Campaign) -> None:
    campaign.undisturbed(SFT)
    run = campaign.folder(SFT)
    assert Manifest.read(run).step == 6
    state = json.loads((run / "checkpoint-6" / "trainer_state.json").read_text())
    assert state["global_step"] == 6


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_the_libraries_load_is_heeded(number: int, tmp_path: Path) -> None:
    job = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "train.cli", "sft",
         "--config", str(TINY / "sft.yaml")],
        stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPO)},
    )  # fmt: skip
    assert job.stderr is not None
    for line in job.stderr:  # one as each module is loaded
        if "numpy" in line or "torch" in line:
            break
    job.send_signal(number)
    rest = job.stderr.read()
    assert job.wait() == PREEMPTED
    assert "sparks: asked to end before the first step" in rest
