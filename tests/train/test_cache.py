"""A folder of the cache is there whole or not at all."""

import os
from pathlib import Path
from typing import Any

import pytest

from train import cache
from train.cache import cached, made_once


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPARKS_CACHE", str(tmp_path / "kept"))
    return cached("model")


def write(path: Path) -> None:
    path.mkdir()
    (path / "weights").write_text("all of it")


def test_a_folder_is_made_once_and_then_taken_as_it_is(folder: Path):
    assert made_once(folder, write) == folder == folder.parent / "model"
    assert (folder / "weights").read_text() == "all of it"
    made_once(folder, lambda path: pytest.fail("it was made again"))
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("where", ["tracking.atomic._sync", "train.cache.publish"])
def test_an_interruption_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch, where: str):
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupt)
    with pytest.raises(KeyboardInterrupt):
        made_once(folder, write)
    assert list(folder.parent.iterdir()) == []


def test_the_leftovers_of_a_kill_are_not_taken_for_the_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        # What a kill leaves: neither the rename nor the clearing up happens.
        patch.setattr(cache, "publish", lambda *_: None)
        patch.setattr(cache.shutil, "rmtree", lambda *_, **__: None)
        assert not made_once(folder, write).exists()
    assert any(folder.parent.iterdir())
    assert (made_once(folder, write) / "weights").is_file()


def test_two_processes_at_once_both_end_well(folder: Path):
    def overtaken(path: Path) -> None:
        made_once(folder, write)  # another process makes it while this one is still at work
        write(path)

    assert made_once(folder, overtaken) == folder
    assert list(folder.parent.iterdir()) == [folder]


def test_a_failing_rename_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OSError, match="No space left"):
        made_once(folder, write)
