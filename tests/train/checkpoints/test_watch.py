"""A watcher writes what the callback would, beside the training, whatever becomes of either."""

import re
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from scripts.campaign.campaign import Campaign
from scripts.campaign.faults import WRITE_RECORD, Fault, Place
from scripts.campaign.outcome import Outcome
from scripts.campaign.running import tail
from scripts.campaign.variants import WATCHED, Variant
from tests.builders.campaigns import AT, GRPO, SFT, ManyNodes
from tests.builders.wandb_files import history
from tracking import BadInput, Ledger, contrast
from tracking.run_folder import RunFolder
from tracking.views.terminal import Table
from train.checkpoints import watch
from train.checkpoints.watch import Watcher
from train.commands import track
from train.run import resume
from train.run.manifest import MANIFEST
from train.run.signals import PREEMPTED, Stop

STEPS = [0, 2, 4, 6]


def give_records(campaign: Campaign, run: Path, *steps: int) -> None:
    """Records of these steps, as the callback has made them."""
    campaign.undisturbed(SFT)
    for step in steps:
        record = Ledger(campaign.folder(SFT) / "heads").path(step)
        shutil.copy(record, run / "heads")


def rows(log: Path) -> list[int]:
    """The steps whose rows a watcher has shown."""
    return [int(row) for row in re.findall(r"^ +(\d+) +[-\d]", log.read_text(), re.MULTILINE)]


def test_a_watcher_beside_a_job_that_is_killed_makes_the_callback_s_records(
    campaign: Campaign, tmp_path: Path
) -> None:
    whole, run = campaign.undisturbed(GRPO), tmp_path / "run"
    watcher = campaign.world.watch(run)
    watched = Variant("grpo", "grpo", {**GRPO.keys, **WATCHED})
    killed = campaign.world.start(watched, run, AT["in a checkpoint, before its manifest"])
    assert killed.wait() == -signal.SIGKILL
    assert campaign.world.start(watched, run).wait() == 0
    assert watcher.wait() == 0, tail(watcher.log)
    assert Outcome.of(run).differences(whole) == []
    assert rows(watcher.log) == STEPS and "waiting    for" in watcher.log.read_text()
    assert list(resume.complete(run)) == [6]
    assert RunFolder(run).waiting.checkpoints() == {}


def test_watchers_share_a_run_and_one_killed_in_a_record_loses_nothing(
    campaign: Campaign, run: Path
) -> None:
    give_records(campaign, run, 0, 2)
    torn = Fault("in a record", WRITE_RECORD, 1, True, "step-")
    assert campaign.world.watch(run, torn, "first").wait() == -signal.SIGKILL
    assert Ledger(run / "heads").steps() == [0, 2]
    both = [campaign.world.watch(run, name=name) for name in ("second", "third")]
    assert [watcher.wait() for watcher in both] == [0, 0], tail(both[0].log)
    assert Outcome.of(run).differences(campaign.undisturbed(SFT)) == []
    assert sorted(rows(both[0].log) + rows(both[1].log)) == [4, 6]
    assert [*(run / "heads").glob(".*.tmp")] == []
    assert RunFolder(run).waiting.checkpoints() == {}


def test_watchers_share_a_run_of_many_nodes_and_one_killed_changes_no_record(
    campaign: Campaign, run: Path, tmp_path: Path
) -> None:
    alone = Path(shutil.copytree(run, tmp_path / "alone"))
    assert campaign.world.watch(alone, ManyNodes()).wait() == 0
    torn = ManyNodes(Fault("in a record", WRITE_RECORD, 2, True, "step-"))
    assert campaign.world.watch(run, torn, "first").wait() == -signal.SIGKILL
    assert [path.name for path in (run / "heads").glob(".screen-*")] == [".screen-00000002.json"]
    both = [campaign.world.watch(run, ManyNodes(), name) for name in ("second", "third")]
    assert [watcher.wait() for watcher in both] == [0, 0], tail(both[0].log)
    assert Outcome.of(run).differences(Outcome.of(alone)) == []
    assert [*(run / "heads").glob(".screen-*")] == []


def test_a_watcher_asked_to_end_leaves_the_rest_to_sparks_track(
    campaign: Campaign, run: Path
) -> None:
    give_records(campaign, run, 0, 2, 4)
    asked = Fault("", Place(contrast, "attributed"), 1, number=signal.SIGTERM)
    watcher = campaign.world.watch(run, asked)
    assert watcher.wait() == PREEMPTED
    message = "sparks: asked to end; start the watcher again with the same line"
    assert tail(watcher.log, 1) == message
    ledger = Ledger(run / "heads")
    assert (ledger.steps(), ledger.marks()) == ([0, 2, 4], {})
    track.main([str(run)])
    assert Outcome.of(run).differences(campaign.undisturbed(SFT)) == []
    assert RunFolder(run).waiting.checkpoints() == {}


def test_a_run_that_was_watched_may_go_on_by_itself(campaign: Campaign, run: Path) -> None:
    give_records(campaign, run, 0, 2, 6)
    for name in (MANIFEST, "model.safetensors"):
        (run / name).unlink()  # as if it had been killed at its end
    job = campaign.world.start(Variant("sft", "sft", {"save_total_limit": 1}), run)
    assert job.wait() == 0, tail(job.log)
    assert resume.history(run)[-1]["changes"] == []
    assert Outcome.of(run).differences(campaign.undisturbed(SFT)) == []
    assert RunFolder(run).waiting.checkpoints() == {}


def test_a_watcher_logs_to_the_run_in_wandb(campaign: Campaign, run: Path) -> None:
    give_records(campaign, run, 0, 2, 4)
    config = (run / "config.yaml").read_text()
    assert config.count("report_to: none\n") == 1
    (run / "config.yaml").write_text(config.replace("report_to: none\n", "report_to: wandb\n"))
    (run / "wandb-id").write_text("abcd1234")
    assert campaign.world.watch(run).wait() == 0
    (offline,) = run.glob("wandb/offline-run-*-abcd1234")
    (row,) = [row for row in history(offline) if "heads/behaviour" in row]
    assert row["train/global_step"] == 6


def test_a_checkpoint_that_cannot_be_analysed_is_named_at_the_end(
    campaign: Campaign, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    give_records(campaign, run, 0, 2, 6)
    weights = RunFolder(run).waiting.checkpoint(4) / "model.safetensors"
    tensors = {name: tensor * torch.nan for name, tensor in load_file(weights).items()}
    save_file(tensors, weights, metadata={"format": "pt"})
    monkeypatch.setattr(watch, "SOON", 0.01)
    with pytest.raises(Stop, match=r"no record of step 4; sparks track .* tries again") as ended:
        Watcher(track._job(run, []), Table()).until_the_end()
    assert ended.value.code == 1
    assert capsys.readouterr().out.count("is not finite") == watch.TRIES
    assert Ledger(run / "heads").marks()[4].why == "failed"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--rebuild"], "takes the folder of a training run"),
        (["--track_select", "edges=7"], "cannot honour '--track_select'"),
    ],
)
def test_a_watcher_takes_no_other_settings_than_the_run_s(
    words: list[str], complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=complaint):
        track.main([str(tmp_path), "--watch", *words])
