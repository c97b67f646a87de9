"""`sparks track` gives what tracking in the training process gives."""

import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.builders.analyses import flat
from tracking import BadInput, Ledger, Record
from tracking.timeline.timeline import Timeline
from tracking.worker import Worker
from train.commands import track

Run = Callable[..., Path]


def same(first: Record, second: Record) -> bool:
    """All but the seconds."""
    pairs = [
        (value, flat(second.analyses[contrast])[name])
        for contrast, analysis in first.analyses.items()
        for name, value in flat(analysis).items()
    ]
    facts = [
        (getattr(first, item.name), getattr(second, item.name))
        for item in fields(Record)
        if item.name not in ("analyses", "seconds")
    ]
    numbers = [
        torch.allclose(torch.as_tensor(a).float(), torch.as_tensor(b).float(), equal_nan=True)
        for a, b in pairs
        if a is not None or b is not None
    ]
    return all(numbers) and all(a == b for a, b in facts)


@pytest.mark.parametrize("adapters", ["false", "true"])
def test_records_made_afterwards_are_those_of_the_callback(
    run_job: Run, tmp_path: Path, adapters: str
) -> None:
    run = run_job("grpo", tmp_path / "run", use_peft=adapters)
    ledger = Ledger(run / "heads")
    during = ledger.records()
    table = ledger.timeline_path.read_bytes()
    for step in (0, 4):
        ledger.path(step).unlink()
    spread = ["--device_map", "auto"] if adapters == "true" else []  # all on the CPU here
    track.main([str(run), *spread])
    assert ledger.steps() == [0, 2, 4]
    for before, after in zip(during, ledger.records(), strict=True):
        assert same(before, after), before.step
    assert ledger.timeline_path.read_bytes() == table


def test_records_made_before_the_first_one_s_are_made_again(
    run_job: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = {"model_name_or_path": "tiny", "track_contrasts": "operand"}  # it has the behaviour
    run = run_job("sft", tmp_path / "run", **tiny)
    ledger = Ledger(run / "heads")
    before, table = ledger.records(), ledger.timeline_path.read_bytes()
    for step in ledger.steps():
        ledger.path(step).unlink()
    work = Worker.work

    def failing(worker: Worker, step: int, *rest: Any, **more: Any) -> Record | None:
        if step == 0:
            raise OSError("no base")
        return work(worker, step, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Worker, "work", failing)
        track.main([str(run)])
    late = ledger.records()[-1].analyses["operand"].wiring
    assert ledger.steps() == [2, 4] and late is not None and late.against == 2
    shutil.copytree(run, tmp_path / "cut")
    track.main([str(run)])
    for one, other in zip(before, ledger.records(), strict=True):
        assert same(one, other), one.step
    assert ledger.timeline_path.read_bytes() == table
    cut = tmp_path / "cut"
    shutil.rmtree(cut / "checkpoint-4")  # its record stays, without wiring
    track.main([str(cut)])
    wired = [one.analyses["operand"].wiring for one in Timeline.read(cut).records]
    assert [one is None for one in wired] == [True, False, True]


def test_a_run_that_was_not_tracked_can_be(run_job: Run, tmp_path: Path) -> None:
    during = Ledger(run_job("sft", tmp_path / "tracked") / "heads").records()
    run = run_job("sft", tmp_path / "untracked", track="false")
    track.main([str(run)])
    for before, after in zip(during, Ledger(run / "heads").records(), strict=True):
        assert same(before, after), before.step


def test_other_settings_make_every_record_again_and_keep_the_old_ones(
    run_job: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_job("sft", tmp_path / "run", track_select="share=0.9")
    ledger = Ledger(run / "heads")
    track.main([str(run), "--track_select", "edges=7"])
    assert [record.settings["select"] for record in ledger.records()] == ["edges=7"] * 3
    assert len(list((ledger.folder / "superseded").iterdir())) == 3
    capsys.readouterr()
    track.main([str(run), "--track_select", "edges=7"])
    assert "every checkpoint has its record" in capsys.readouterr().out
    assert len(list((ledger.folder / "superseded").iterdir())) == 3


def test_rebuild_makes_the_timeline_and_nothing_else(run_job: Run, tmp_path: Path) -> None:
    run = run_job("sft", tmp_path / "run")
    ledger = Ledger(run / "heads")
    table = ledger.timeline_path.read_bytes()
    ledger.timeline_path.unlink()
    ledger.path(2).unlink()
    track.main([str(run), "--rebuild"])
    assert ledger.steps() == [0, 4]
    track.main([str(run)])
    track.main([str(run), "--rebuild"])
    assert ledger.timeline_path.read_bytes() == table


def test_rebuild_refuses_what_only_a_new_analysis_could_honour(
    run_job: Run, tmp_path: Path
) -> None:
    run = run_job("sft", tmp_path / "run")
    with pytest.raises(BadInput, match="cannot honour '--track_select'"):
        track.main([str(run), "--rebuild", "--track_select", "edges=7"])
    track.main([str(run), "--rebuild", "--track_share", "0.5"])


def test_a_folder_that_is_no_run_and_a_flag_that_is_not_ours_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"is no run of Sparks.*config\.yaml"):
        track.main([str(tmp_path)])
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    with pytest.raises(BadInput, match="does not say which job"):
        track.main([str(tmp_path)])
    with pytest.raises(BadInput, match="--max_steps"):
        track.main([str(tmp_path), "--max_steps", "3"])


@pytest.mark.parametrize("select", ["share", "share=2", "edges=0.5", "edges=0", "top=5", "=3"])
def test_a_circuit_size_that_makes_no_sense_is_told_with_those_that_do(
    run_job: Run, tmp_path: Path, select: str
) -> None:
    with pytest.raises(BadInput, match=r"select is"):
        run_job("sft", tmp_path / "run", track_select=select)
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_fails_is_told_and_the_others_are_done(
    run_job: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_job("sft", tmp_path / "run", track="false")
    weights = run / "checkpoint-2" / "model.safetensors"
    tensors = {name: tensor * torch.nan for name, tensor in load_file(weights).items()}
    save_file(tensors, weights, metadata={"format": "pt"})
    track.main([str(run)])
    assert Ledger(run / "heads").steps() == [0, 4]
    assert "is not finite" in capsys.readouterr().out
    assert Ledger(run / "heads").marks()[2].why == "failed"


def test_records_of_other_settings_without_checkpoints_are_set_aside(
    run_job: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_job("sft", tmp_path / "run")
    shutil.rmtree(run / "checkpoint-2")
    track.main([str(run), "--track_select", "edges=7"])
    assert Ledger(run / "heads").steps() == [0, 4]
    assert "its checkpoint is gone" in capsys.readouterr().out


def test_a_damaged_record_is_made_again(run_job: Run, tmp_path: Path) -> None:
    run = run_job("sft", tmp_path / "run")
    ledger = Ledger(run / "heads")
    before = ledger.read(2)
    ledger.path(2).write_bytes(ledger.path(2).read_bytes()[:1000])
    track.main([str(run)])
    assert same(before, ledger.read(2))
