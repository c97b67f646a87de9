"""A run that is killed and resumed ends like an undisturbed one, or is refused by name."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers import TrainerControl, TrainerState, TrainingArguments

from scripts.campaign.campaign import Campaign
from scripts.campaign.outcome import Outcome
from scripts.campaign.variants import Variant
from tests.builders.campaigns import AT, FAST, GRPO, KEPT, SFT
from tracking import BadInput, Ledger
from tracking.run_folder import RunFolder
from train.commands import grpo, sft
from train.run import resume
from train.run.identity import Identity
from train.run.lock import Lock
from train.run.manifest import MANIFEST, Manifest


@pytest.fixture
def run(campaign: Campaign, tmp_path: Path) -> Path:
    """A copy of an undisturbed SFT run of 6 steps, with checkpoints 2, 4 and 6."""
    campaign.undisturbed(SFT)
    shutil.copytree(campaign.world.folder / "sft-undisturbed", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def go_on(campaign: Campaign) -> Callable[..., Path]:
    """`go_on(run, key=value)`: resumes a copy in this process, from the newest checkpoint."""

    def go_on(run: Path, variant: Variant = SFT, **keys: object) -> Path:
        keys = {"resume_from_checkpoint": "latest", **keys}
        main = grpo.main if variant.job == "grpo" else sft.main
        main(campaign.world.arguments(variant, run, **keys))
        return run

    return go_on


def unfinish(run: Path, step: int) -> Path:
    """As if the run had been killed right after it saved the checkpoint of `step`, whole."""
    for name in (MANIFEST, "model.safetensors"):
        (run / name).unlink()
    for path in run.glob("checkpoint-*"):
        if int(path.name[11:]) > step:
            shutil.rmtree(path)
    return run / f"checkpoint-{step}"


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rewrite(checkpoint: Path, part: str, **values: object) -> None:
    """Change what a checkpoint's manifest tells of its job."""
    facts = json.loads((checkpoint / MANIFEST).read_bytes())
    facts["identity"][part] |= values
    (checkpoint / MANIFEST).write_text(json.dumps(facts))


# Killed for real


def test_the_reward_has_something_to_learn_from(campaign: Campaign) -> None:
    campaign.undisturbed(GRPO)
    state = campaign.world.folder / "grpo-undisturbed" / "checkpoint-6" / "trainer_state.json"
    norms = [row["grad_norm"] for row in json.loads(state.read_text())["log_history"]]
    assert min(norms) > 0


@pytest.mark.parametrize(
    ("variant", "fault"),
    [
        (SFT, "in a record"),
        (GRPO, "in a checkpoint, in its optimizer"),
    ],
)
def test_a_run_killed_at_a_bad_moment_ends_like_an_undisturbed_one(
    campaign: Campaign, variant: Variant, fault: str
) -> None:
    trial = campaign.faults(variant, fault, AT[fault])
    assert (trial.kills, trial.problems, trial.lost) == (1, [], 0)


@pytest.mark.parametrize("variant", [SFT, KEPT])
def test_a_run_killed_at_a_random_moment_ends_like_an_undisturbed_one(
    campaign: Campaign, variant: Variant
) -> None:
    trial = campaign.random_kills(variant, 1)
    assert (trial.problems, trial.lost) == ([], 0)


def test_the_checkpoint_resumed_from_outlives_a_kill_in_the_next(
    campaign: Campaign, tmp_path: Path
) -> None:
    fault = AT["in a checkpoint, before its manifest"]
    limited = Variant("sft", "sft", {"save_total_limit": 1})
    campaign.world.start(limited, tmp_path / "run", fault).wait()
    assert list(resume.complete(tmp_path / "run")) == [2]
    assert (tmp_path / "run" / "checkpoint-4").exists()
    assert campaign.world.start(limited, tmp_path / "run").wait() == 0
    assert list(resume.complete(tmp_path / "run")) == [6]
    assert Ledger(tmp_path / "run" / "heads").steps() == [0, 2, 4, 6]


# Which checkpoint is complete


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_checkpoint_with_a_file_gone_or_resized_is_not_complete(
    data: st.DataObject, run: Path
) -> None:
    checkpoint = run / "checkpoint-4"
    files = Manifest.read(checkpoint).files
    there = {str(p.relative_to(checkpoint)) for p in checkpoint.rglob("*") if p.is_file()}
    assert {*files} == there - {MANIFEST}
    path = checkpoint / data.draw(st.sampled_from(sorted(files)))
    whole = path.read_bytes()
    other = st.integers(-1, len(whole) + 1).filter(lambda size: size != len(whole))
    size = data.draw(other)
    path.unlink()
    if size >= 0:
        path.write_bytes((whole + b"\0")[:size])
    with pytest.raises(BadInput, match=path.name):
        Manifest.read(checkpoint)
    assert list(resume.complete(run)) == [2, 6]
    path.write_bytes(whole)
    assert list(resume.complete(run)) == [2, 4, 6]


@pytest.mark.parametrize("name", ["trainer_state.json", "model.safetensors", "optimizer.pt"])
def test_a_checkpoint_with_an_altered_file_is_not_resumed_from(
    run: Path, go_on: Callable[..., Path], campaign: Campaign, name: str
) -> None:
    unfinish(run, 4)
    path = run / "checkpoint-4" / name
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 2] ^= 1
    path.write_bytes(changed)
    with pytest.raises(BadInput, match=f"{name} is damaged; its checksum does not match"):
        go_on(run, resume_from_checkpoint=run / "checkpoint-4")
    go_on(run)
    assert [one["step"] for one in resume.history(run)] == [2]
    whole = campaign.world.folder / "sft-undisturbed" / "model.safetensors"
    assert (run / "model.safetensors").read_bytes() == whole.read_bytes()


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_manifest_is_refused_in_one_line_or_can_be_used(data: st.DataObject, run: Path) -> None:
    path = run / "checkpoint-4" / MANIFEST
    whole = path.read_bytes()
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=5,
    )

    def reshaped(name: str, value: object) -> bytes:
        return json.dumps({**json.loads(whole), name: value}).encode()

    cut = st.integers(0, len(whole) - 1).map(lambda size: whole[:size])
    names = st.sampled_from(["identity", "files", "format", "step"])
    shaped = st.builds(reshaped, names, values)
    path.write_bytes(data.draw(cut | st.binary(max_size=20) | shaped))
    try:
        manifest = Manifest.read(path.parent)
        assert isinstance(manifest.step, int)
        assert manifest.identity.changes(manifest.identity) == []
    except BadInput as damage:
        assert "\n" not in str(damage)
    finally:
        path.write_bytes(whole)


def test_a_checkpoint_by_another_name_is_not_taken(run: Path, go_on: Callable[..., Path]) -> None:
    unfinish(run, 4).rename(run / "checkpoint-7")
    assert list(resume.complete(run)) == [2]
    with pytest.raises(BadInput, match="no complete checkpoint: it is checkpoint-4 by another"):
        go_on(run, resume_from_checkpoint=run / "checkpoint-7")


def test_checkpoints_come_in_the_order_of_their_steps(run: Path) -> None:
    facts = json.loads((run / "checkpoint-6" / MANIFEST).read_text())
    (run / "checkpoint-6").rename(run / "checkpoint-10")
    (run / "checkpoint-10" / MANIFEST).write_text(json.dumps({**facts, "step": 10}))
    (run / "checkpoint-last").mkdir()
    (run / "checkpoint-99").write_text("a file")
    assert list(resume.complete(run)) == [2, 4, 10]


# Whether this job may go on with it


CHANGES = {
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 2,
    "dataset_size": 60,
    "seed": 1,
    "learning_rate": 0.5,
    "max_steps": 8,
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_setting_is_refused_by_its_name_and_nothing_is_touched(
    run: Path, go_on: Callable[..., Path], name: str
) -> None:
    was = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "seed": 0}
    before = was.get(name, FAST.get(name, ".*"))
    unfinish(run, 4)
    there = contents(run)
    with pytest.raises(BadInput, match=f"{name} was {before}, is {CHANGES[name]}") as refused:
        go_on(run, **{name: CHANGES[name]})
    assert "\n" not in str(refused.value)
    assert "--accept_changes true" in str(refused.value)
    assert contents(run) == there


@pytest.mark.parametrize(
    ("part", "name", "was"),
    [
        ("layout", "processes", 2),
        ("layout", "strategy", "DEEPSPEED ZeRO-2"),
        ("layout", "device", "cuda"),
        ("versions", "torch", "1.0"),
        ("versions", "deepspeed", "0.19"),
    ],
)
def test_a_checkpoint_of_other_processes_or_versions_is_refused(
    run: Path, go_on: Callable[..., Path], part: str, name: str, was: object
) -> None:
    rewrite(unfinish(run, 4), part, **{name: was})
    there = contents(run)
    with pytest.raises(BadInput, match=f"{name} was {was!r}, is "):
        go_on(run)
    assert contents(run) == there


def test_rows_that_are_not_the_same_are_another_dataset(
    run: Path, go_on: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [{"prompt": f"What is {n}?", "completion": str(n)} for n in range(64)]
    path, keys = tmp_path / "rows.jsonl", {"track": "false", "assistant_only_loss": "false"}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    keys |= {"dataset_name": path}
    go_on(tmp_path / "jsonl", resume_from_checkpoint="false", **keys)
    unfinish(tmp_path / "jsonl", 4)
    rows[63]["completion"] = "64"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(BadInput, match=r"training data was '[0-9a-f]{16}', is '[0-9a-f]{16}'"):
        go_on(tmp_path / "jsonl", **keys)


def test_a_resumed_run_saves_as_often_as_it_is_told_to_now(
    run: Path, go_on: Callable[..., Path]
) -> None:
    unfinish(run, 2)
    go_on(run, save_steps=1, logging_steps=3, track="false", accept_changes="true")
    assert [*resume.complete(run)] == [2, 3, 4, 5, 6]
    state = json.loads((run / "checkpoint-6" / "trainer_state.json").read_text())
    assert [row["step"] for row in state["log_history"] if "loss" in row][-2:] == [3, 6]


def test_changes_that_are_accepted_are_noted_and_the_run_goes_on(
    run: Path, go_on: Callable[..., Path], capsys: pytest.CaptureFixture
) -> None:
    unfinish(run, 4)
    go_on(run, max_steps=8, accept_changes="true")
    (noted,) = resume.history(run)
    assert (noted["step"], noted["changes"]) == (4, ["max_steps was 6, is 8"])
    assert "changed    max_steps was 6, is 8" in capsys.readouterr().out
    assert list(resume.complete(run)) == [2, 4, 6, 8]
    assert Manifest.read(run).step == 8


def test_what_another_job_does_before_the_lock_is_seen_under_it(
    run: Path, go_on: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Late(Lock):
        def __init__(self, folder: Path) -> None:
            rewrite(folder / "checkpoint-4", "settings", seed=9)
            super().__init__(folder)

    unfinish(run, 4)
    monkeypatch.setattr("train.prepare.Lock", Late)
    with pytest.raises(BadInput, match="seed was 9, is 0"):
        go_on(run)
    assert resume.history(run) == []
    Lock(run).release()


def test_a_finished_run_is_left_alone(run: Path, go_on: Callable[..., Path]) -> None:
    there = contents(run)
    with pytest.raises(BadInput, match="is at its end already, step 6"):
        go_on(run)
    assert contents(run) == there


def test_settings_that_change_no_weight_may_change(
    campaign: Campaign, run: Path, go_on: Callable[..., Path]
) -> None:
    unfinish(run, 4)
    keys = {"logging_first_step": "true", "track_batch_size": 8, "save_total_limit": 9}
    go_on(run, **keys, run_name="another", track_on_error="raise")
    changed = Outcome.of(run).differences(campaign.undisturbed(SFT))
    assert set(changed) <= {"record of step 6", "timeline"}  # the last digits of sums
    assert resume.history(run)[-1]["changes"] == []


PLAIN = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2), max_size=4)


@given(layout=PLAIN, settings=PLAIN, versions=PLAIN, other=PLAIN)
def test_an_identity_differs_from_another_exactly_where_a_value_does(
    layout: dict, settings: dict, versions: dict, other: dict
) -> None:
    one = Identity("sft", layout, settings, "data", versions)
    assert one.changes(one) == []
    changed = one.changes(Identity("sft", layout, other, "data", versions))
    keys = [key for key in {*settings, *other} if settings.get(key) != other.get(key)]
    assert sorted(line.split()[0] for line in changed) == sorted(keys)
    assert one.changes(Identity("sft", layout, settings, "more", versions)) == [
        "training data was 'data', is 'more'"
    ]


# What a resume does to the folder


def test_what_is_later_than_the_checkpoint_is_moved_aside_and_stays(
    campaign: Campaign, run: Path, go_on: Callable[..., Path]
) -> None:
    for _ in range(2):
        go_on(run, resume_from_checkpoint=run / "checkpoint-2")
        assert Outcome.of(run).differences(campaign.undisturbed(SFT)) == []
    aside = sorted(path.name for path in (run / "superseded").iterdir())
    assert aside == ["checkpoint-4", "checkpoint-4.1", "checkpoint-6", "checkpoint-6.1"]
    records = sorted(path.name for path in (run / "heads" / "superseded").iterdir())
    assert len(records) == 4
    assert list(resume.complete(run)) == [2, 4, 6]
    assert [noted["step"] for noted in resume.history(run)] == [2, 2]


def test_what_was_solved_at_later_steps_is_moved_aside(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for step in (4, 8, 12):
        run.evaluation(step).mkdir(parents=True)
    resume.take_up(tmp_path, tmp_path / "checkpoint-8", [])
    assert [*run.evaluations()] == [4, 8]
    assert (run.superseded / "evals" / "step-00000012").is_dir()


@pytest.mark.parametrize(
    ("change", "rate"),
    [("save_steps was 2, is 4", 1e-4), ("learning_rate was 0.1, is 0.001", 1e-3)],
)
def test_a_rate_that_the_loss_has_lowered_stays_unless_it_was_changed(
    change: str, rate: float, tmp_path: Path
) -> None:
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3)
    schedule = ReduceLROnPlateau(optimizer, patience=0, factor=0.1)
    for loss in (1, 2):
        schedule.step(loss)
    words = {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "steps", "eval_steps": 1}
    args: Any = TrainingArguments(output_dir=str(tmp_path), learning_rate=1e-3, **words)
    resume.AcceptedChangesCallback([change]).on_train_begin(
        args, TrainerState(), TrainerControl(), layer, optimizer, schedule
    )
    assert [group["lr"] for group in optimizer.param_groups] == [pytest.approx(rate)]


def test_a_run_without_a_complete_checkpoint_begins_again(
    campaign: Campaign, run: Path, go_on: Callable[..., Path], capsys: pytest.CaptureFixture
) -> None:
    unfinish(run, 2)
    (run / "checkpoint-2" / "optimizer.pt").unlink()
    go_on(run)
    printed = capsys.readouterr().out
    assert "optimizer.pt is missing" in printed and "training begins again" in printed
    assert Outcome.of(run).differences(campaign.undisturbed(SFT)) == []
    assert (run / "superseded" / "checkpoint-2").exists()


def test_a_run_killed_after_its_last_checkpoint_ends_without_a_step(
    campaign: Campaign, run: Path, go_on: Callable[..., Path]
) -> None:
    last = unfinish(run, 6)
    (run / "report.png").unlink()
    there = {path: path.stat().st_mtime_ns for path in last.iterdir()}
    go_on(run)
    assert {path: path.stat().st_mtime_ns for path in last.iterdir()} == there
    assert Outcome.of(run).differences(campaign.undisturbed(SFT)) == []
    assert (run / "report.png").exists()
    assert Manifest.read(run).step == 6


def test_a_clock_that_jumps_does_not_change_which_checkpoints_are_kept(
    campaign: Campaign, run: Path, go_on: Callable[..., Path]
) -> None:
    unfinish(run, 4)
    for path in (run / "checkpoint-2", *(run / "checkpoint-2").iterdir()):
        os.utime(path, (2**32, 2**32))  # written when the clock was decades ahead
    go_on(run, save_total_limit=2)
    assert list(resume.complete(run)) == [4, 6]
    assert Outcome.of(run).differences(campaign.undisturbed(SFT)) == []


def test_wandb_goes_on_in_the_same_run(campaign: Campaign, tmp_path: Path) -> None:
    online = Variant("sft", "sft", {"report_to": "wandb", "track": "false"})
    run, fault = tmp_path / "run", AT["in a checkpoint, before its manifest"]
    campaign.world.start(online, run, fault).wait()
    first = (run / "wandb-id").read_text()
    assert campaign.world.start(online, run).wait() == 0
    assert (run / "wandb-id").read_text() == first
    for folder in (run / "checkpoint-2", run / "checkpoint-6"):
        assert Manifest.read(folder).wandb == first
    offline = {path.name.rpartition("-")[2] for path in (run / "wandb").glob("offline-run-*")}
    assert offline == {first}
