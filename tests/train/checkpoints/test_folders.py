"""Checkpoints are found by the names of their folders, and only whole ones are taken."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.checkpoints import save_adapter, save_model
from tracking import BadInput
from train.checkpoints.folders import STEP, checkpoints, identity, weights


@given(
    name=st.sampled_from(["checkpoint-{}", "global_step_{}", "step_{}", "step-{}", "iter_{:07d}"]),
    step=st.integers(0, 10**9),
)
def test_every_way_to_call_a_checkpoint_tells_its_step(name: str, step: int) -> None:
    match = STEP.fullmatch(name.format(step))
    assert match and int(match[1]) == step


@pytest.mark.parametrize("name", ["checkpoint-", "checkpoint-5-tmp", "old_step_5", "step5"])
def test_other_folders_are_no_checkpoints(name: str) -> None:
    assert not STEP.fullmatch(name)


def noted(folder: Path) -> tuple[dict[int, Path], list[str]]:
    notes: list[str] = []
    return checkpoints(folder, notes.append), notes


def test_an_actor_is_taken_before_its_critic_and_two_equals_are_skipped(tmp_path: Path) -> None:
    wanted = save_model(tmp_path / "global_step_3" / "actor" / "huggingface", 0)
    save_model(tmp_path / "global_step_3" / "critic" / "huggingface", 0)
    for name in "ab":
        save_model(tmp_path / "global_step_4" / name, 0)
    by_step, notes = noted(tmp_path)
    assert by_step == {3: wanted}
    assert len(notes) == 1 and "several models" in notes[0]


def test_steps_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    for step in (100, 20, 3):
        save_model(tmp_path / f"checkpoint-{step}", 0)
    (tmp_path / "checkpoint-7").write_text("a file")
    by_step, notes = noted(tmp_path)
    assert [*by_step] == [3, 20, 100] and notes == []


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
def test_weights_that_are_cut_short_are_not_whole(tmp_path: Path, cut: int) -> None:
    model = save_model(tmp_path / "model", 0)
    (path,) = weights(model)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(BadInput, match=r"model\.safetensors is cut short or damaged"):
        weights(model)


def test_an_adapter_s_weights_are_its_own(tmp_path: Path) -> None:
    base = save_model(tmp_path / "base", 0)
    adapter = save_adapter(tmp_path / "adapter", base, 1)
    assert [path.name for path in weights(adapter)] == ["adapter_model.safetensors"]
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(BadInput, match="it has no weights"):
        weights(adapter)


def test_weights_that_are_written_again_are_others(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", 0)
    before = identity(model)
    assert before and identity(model) == before
    path = weights(model)[0]
    copy = path.read_bytes()
    path.rename(tmp_path / "kept")
    assert identity(model) == []
    path.write_bytes(copy)
    assert identity(model) != before
