"""SFT, then GRPO from what it made: one timeline, whoever makes the records."""

import io
import json
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForCausalLM

from scripts.campaign.outcome import Outcome
from tracking import BadInput, Ledger, Timeline
from tracking.nodes.weight_change import CHANGES, snapshot, weight_change
from tracking.pairs.frozen import load_pairs, pairs_hash
from tracking.timeline.coupling import rewards
from tracking.views.payload import of_run
from train.commands import show, track
from train.run.manifest import MANIFEST

Run = Callable[..., Path]
KEYS = {"track_contrasts": "cue", "learning_rate": 0.01}


@pytest.fixture(scope="module")
def first(run_job: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracked SFT run of 4 steps, only read."""
    return run_job("sft", tmp_path_factory.mktemp("stages") / "sft", **KEYS)


@pytest.fixture(scope="module")
def second(run_job: Run, first: Path) -> Path:
    """GRPO of 4 steps from its end, only read; of the pairs that its recipe asks for none."""
    keys = {"model_name_or_path": first, "track_base": first, "track_pairs_count": 20}
    return run_job("grpo", first.with_name("grpo"), **KEYS, **keys)


def go_on(run_job: Run, first: Path, run: Path, **keys: object) -> Path:
    settled = {"model_name_or_path": first, "track_base": first, "track_pairs_count": 20}
    return run_job("grpo", run, **{**KEYS, **settled, **keys})


def without_records(run: Path, folder: Path, *steps: int) -> Path:
    copy = shutil.copytree(run, folder)
    for step in steps:
        (copy / "heads" / f"step-{step:08d}.safetensors").unlink()
    return copy


def test_steps_go_on_after_the_earlier_run_s_whose_records_are_taken_over(
    first: Path, second: Path
) -> None:
    earlier, records = Ledger(first / "heads").records(), Ledger(second / "heads").records()
    assert [(one.step, one.began) for one in records] == [(0, 0), (2, 0), (4, 0), (6, 4), (8, 4)]
    assert Ledger(second / "heads").own_steps() == [2, 4]
    for one, copied in zip(earlier, records, strict=False):
        assert copied.analyses["cue"].scores.edge_scores.equal(
            one.analyses["cue"].scores.edge_scores
        )
    pairs = [load_pairs(run / "heads" / "pairs.safetensors") for run in (first, second)]
    assert pairs_hash(pairs[0]) == pairs_hash(pairs[1]) == records[-1].pairs
    timeline = Timeline.read(second)
    assert (timeline.stages, {*timeline.counts["stage"]}) == ([4], {0, 4})
    reward = rewards(timeline.counts, "cue")
    assert reward.name == "reward" and [*reward.index[reward.notna()]] == [6, 8]


def test_a_later_stage_is_measured_against_the_first_one_s_base(
    second: Path, small_model: Path
) -> None:
    base = snapshot(AutoModelForCausalLM.from_pretrained(small_model))
    last = AutoModelForCausalLM.from_pretrained(second / "checkpoint-4")
    change = Ledger(second / "heads").read(4).analyses["cue"].heads.weight_change
    expected = weight_change(last, base)[list(CHANGES)].to_numpy().T
    np.testing.assert_allclose(change.numpy(), expected, rtol=1e-5)


def test_a_later_stage_that_was_killed_ends_like_an_undisturbed_one(
    run_job: Run, first: Path, second: Path, tmp_path: Path
) -> None:
    again = shutil.copytree(second, tmp_path / "run")
    for name in (MANIFEST, "model.safetensors", f"checkpoint-4/{MANIFEST}"):
        (again / name).unlink()
    go_on(run_job, first, again, resume_from_checkpoint="latest")
    assert Outcome.of(again).differences(Outcome.of(second)) == []


def test_a_later_stage_without_a_checkpoint_begins_again_on_its_base(
    run_job: Run, first: Path, second: Path, tmp_path: Path
) -> None:
    again = without_records(second, tmp_path / "run", 2, 4)  # killed before its pairs were frozen
    seals = (MANIFEST, f"checkpoint-2/{MANIFEST}", f"checkpoint-4/{MANIFEST}")
    for name in ("heads/pairs.safetensors", *seals):
        (again / name).unlink()
    go_on(run_job, first, again, resume_from_checkpoint="latest")
    assert Outcome.of(again).differences(Outcome.of(second)) == []


def test_a_watcher_s_records_of_a_later_stage_are_the_training_s(
    run_job: Run, first: Path, second: Path, tmp_path: Path
) -> None:
    run = go_on(run_job, first, tmp_path / "run", track_mode="watch")
    assert Ledger(run / "heads").own_steps() == []
    track.main([str(run), "--watch"])
    assert Outcome.of(run).differences(Outcome.of(second)) == []


def test_track_makes_a_later_stage_s_records_and_leaves_its_base(
    second: Path, tmp_path: Path
) -> None:
    run = without_records(second, tmp_path / "run", 4)
    track.main([str(run)])
    assert Outcome.of(run).differences(Outcome.of(second)) == []
    for flag, words in (("--track_ig_steps", "track_base"), ("--track_base", "are frozen")):
        with pytest.raises(BadInput, match=words):
            track.main([str(run), flag, "4"])
    assert Outcome.of(run).differences(Outcome.of(second)) == []


def test_a_stage_may_begin_at_a_checkpoint_of_a_later_stage(
    run_job: Run, second: Path, tmp_path: Path
) -> None:
    keys = {**KEYS, "model_name_or_path": second / "checkpoint-2", "track_base": second}
    run = run_job("sft", tmp_path / "run", **keys, max_steps=2)
    steps = [(one.step, one.began) for one in Ledger(run / "heads").records()]
    assert steps == [(0, 0), (2, 0), (4, 0), (6, 4), (8, 6)]
    assert Timeline.read(run).stages == [4, 6]


def test_the_views_show_all_stages_on_one_axis(second: Path) -> None:
    shown = of_run("both", second, Timeline.read(second))
    assert (shown["steps"], shown["stages"]) == ([0, 2, 4, 6, 8], [4])
    samples = [{*one["step"]} for one in shown["completions"]["samples"]]
    assert samples[:3] == [set()] * 3 and samples[3] <= {5, 6} and samples[4] <= {7, 8}
    assert samples[3] and samples[4]
    with redirect_stdout(io.StringIO()) as printed:
        show.main([str(second)])
    rows = [line.split()[0] for line in printed.getvalue().splitlines() if " cue 16 " in line]
    assert rows == ["0", "2", "4", "6", "8"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"track_base": "/no/such"}, "/no/such: it is no run of a training"),
        ({"model_name_or_path": "tiny"}, "model_name_or_path tiny no model of it"),
        ({"track_ig_steps": 4}, "its records were made with track_ig_steps 2, not 4"),
        ({"track_contrasts": "operand"}, "its contrasts are cue, not operand"),
        ({"track_pairs_file": "mine.jsonl"}, "leave out track_pairs_file"),
        ({"track": "false"}, "it needs track"),
    ],
)
def test_a_base_that_does_not_fit_is_refused_in_one_line(
    run_job: Run, first: Path, tmp_path: Path, keys: dict[str, object], message: str
) -> None:
    with pytest.raises(BadInput) as refused:
        go_on(run_job, first, tmp_path / "run", **keys)
    assert message in str(refused.value) and "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_run_does_not_go_on_from_itself(run_job: Run, first: Path, tmp_path: Path) -> None:
    run = shutil.copytree(first, tmp_path / "run")
    further = {"resume_from_checkpoint": "latest", "max_steps": 6, "accept_changes": "true"}
    with pytest.raises(BadInput, match=r"track_base .* is this very run"):
        run_job("sft", run, **KEYS, track_base=run, **further)
    assert not (run / "heads" / "base").exists()


def test_a_base_without_the_record_that_a_stage_begins_with_is_refused(
    run_job: Run, first: Path, tmp_path: Path
) -> None:
    lacking = without_records(first, tmp_path / "sft", 4)
    with pytest.raises(BadInput, match=r"lacks the record of step 0 or of step 4; sparks track"):
        go_on(run_job, lacking, tmp_path / "run")
    manifest = json.loads((lacking / MANIFEST).read_text())
    (lacking / MANIFEST).write_text(json.dumps({**manifest, "format": 0}))
    with pytest.raises(BadInput, match=r"is not complete: sparks\.json has format 0"):
        go_on(run_job, lacking, tmp_path / "run")
