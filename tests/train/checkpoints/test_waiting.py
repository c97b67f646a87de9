"""Weights stay until their step has its record, whatever becomes of their checkpoint."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.campaign.campaign import Campaign
from tests.builders.campaigns import SFT
from tracking import BadInput, Ledger
from tracking.run_folder import RunFolder
from train.checkpoints.waiting import analysable, keep, release, unchanged
from train.run import resume
from train.run.manifest import MANIFEST


def test_training_that_is_watched_only_saves_and_keeps_weights_for_later(
    campaign: Campaign, trained: Path
) -> None:
    campaign.undisturbed(SFT)
    weights = [(run / "model.safetensors").read_bytes() for run in (trained, campaign.folder(SFT))]
    assert weights[0] == weights[1]
    assert Ledger(trained / "heads").steps() == []
    assert list(resume.complete(trained)) == [6]
    kept = resume.complete(RunFolder(trained).waiting.path)
    assert list(kept) == [2, 4, 6]
    assert not [path for path in kept[2].iterdir() if path.suffix in (".pt", ".pth")]
    links = [(path / "model.safetensors").stat() for path in (kept[6], trained / "checkpoint-6")]
    assert links[0].st_ino == links[1].st_ino
    text = trained.with_name("sft-watched.log").read_text()
    assert f"tracking   0 of 4 records so far; sparks track {trained} --watch makes the" in text


def test_what_no_watcher_could_analyse_is_refused_before_the_first_step(
    run_job: Callable[..., Path], tmp_path: Path
) -> None:
    keys = {"use_peft": "true", "use_dora": "true", "lora_target_modules": "all-linear"}
    with pytest.raises(BadInput, match="cannot track a DoRA adapter"):
        run_job("sft", tmp_path / "run", track_mode="watch", **keys)
    assert resume.complete(tmp_path / "run") == {}


def test_weights_of_steps_that_a_resumed_run_has_left_go(run: Path) -> None:
    (run / MANIFEST).unlink()
    resume.take_up(run, run / "checkpoint-4", [])
    assert list(RunFolder(run).waiting.checkpoints()) == [2, 4]
    resume.take_up(run, None, [])
    assert list(RunFolder(run).waiting.checkpoints()) == []


def test_weights_are_kept_once_and_go_with_their_record(run: Path) -> None:
    place = RunFolder(run)
    six = place.waiting.checkpoint(6)
    (six / MANIFEST).unlink()  # killed while it was linked
    assert analysable(run) == {
        2: place.waiting.checkpoint(2), 4: place.waiting.checkpoint(4), 6: place.checkpoint(6)
    }  # fmt: skip
    keep(place)
    assert analysable(run)[6] == six
    for step in (4, 6):
        place.ledger.path(step).write_bytes(b"a record")
    release(place)
    keep(place)
    assert list(place.waiting.checkpoints()) == [2]


def test_weights_are_the_same_wherever_they_lie_until_they_are_written_again(run: Path) -> None:
    place = RunFolder(run)
    assert not unchanged(place, 3)()
    shutil.rmtree(place.waiting.path)
    keep(place)
    same = unchanged(place, 6)
    place.checkpoint(6).rename(run / "aside")
    assert same()
    kept = place.waiting.checkpoint(6)
    weights = (kept / "model.safetensors").read_bytes()
    shutil.rmtree(kept)
    assert not same()
    kept.mkdir()
    (kept / "model.safetensors").write_bytes(weights)
    assert not same()
