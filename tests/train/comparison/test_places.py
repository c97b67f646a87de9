"""A word names a run's checkpoint or a model, and nothing else is taken for one."""

import shutil
from pathlib import Path

import pytest

from tests.builders.checkpoints import QUICK, save_checkpoints, save_model, write_pairs
from tracking.errors import BadInput
from tracking.run_folder import RunFolder
from train.checkpoints import models
from train.commands import track
from train.comparison.places import base_of, began_with, places
from train.tiny.base import BASES


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `sparks track` makes of two checkpoints."""
    folder = tmp_path_factory.mktemp("places")
    theirs = save_checkpoints(folder / "theirs", (100, 200))
    words = [theirs, "--pairs", write_pairs(folder), "--output_dir", folder / "run", *QUICK]
    track.main([str(word) for word in words])
    return folder / "run"


def test_a_run_is_its_last_record_or_that_of_a_step(run: Path) -> None:
    first, last = places([f"{run}@100", str(run)])
    assert (first.step, last.step) == (100, 200)
    assert (first.name, last.name) == ("run@100", "run")
    assert first.model is not None and first.model.source.name.endswith("checkpoint-100")
    assert first.base == last.base and str(first.base).endswith("checkpoint-100")


def test_a_model_alone_is_a_model(tmp_path: Path) -> None:
    folders = [save_model(tmp_path / where / "model", seed=0) for where in "ab"]
    one, other = places([str(folder) for folder in folders])
    assert (one.name, other.name) == ("a/model", "b/model")
    assert one.run is None and one.base is None and one.model is not None


def test_what_sparks_names_is_a_model() -> None:
    (base,) = places(["tiny"])
    assert base.name == "tiny" and base.model is not None and base.model.load().config


def test_a_training_run_has_its_base_as_step_0(run_job, tmp_path: Path, small_model: Path) -> None:
    job = run_job("sft", tmp_path / "run", max_steps=2, save_steps=1)
    first, second = places([f"{job}@0", str(job / "checkpoint-1")])
    assert first.model is not None and first.model.source.files == small_model.resolve()
    assert second.step == 1 and second.name == "run@1" and second.base == str(small_model)
    copy, run = shutil.copytree(small_model, tmp_path / "copy"), RunFolder(job)
    other = save_model(tmp_path / "other", seed=1)
    wanted = {str(copy): True, str(other): False, str(job / "checkpoint-2"): False}
    described = {word: models.describe(models.locate(word)) for word in wanted}
    assert {word: began_with(run, model) for word, model in described.items()} == wanted


def test_weights_at_the_end_are_those_of_the_last_step_not_of_the_last_record(
    run_job, tmp_path: Path
) -> None:
    job = run_job("sft", tmp_path / "run", max_steps=2, save_steps=1, save_total_limit=1)
    (last,) = places([str(job)])
    assert last.step == 2 and last.model is not None
    shutil.rmtree(job / "checkpoint-2")
    RunFolder(job).ledger.path(2).unlink()  # as if its analysis had failed
    (recorded,) = places([str(job)])
    assert recorded.step == 1 and recorded.model is None
    (trained,) = places([f"{job}@2"])
    assert trained.model is not None and trained.model.source.files == job.resolve()


@pytest.mark.parametrize(
    ("name", "seed", "words"),
    [
        ("tiny", 1, "tiny of seed 1"),
        (str(BASES / "seed1"), 5, "tiny of seed 1"),
        ("smollm2", 1, "smollm2"),
        ("org/model", 1, "org/model"),
    ],
)
def test_a_base_has_one_name(name: str, seed: int, words: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"model_name_or_path: {name}\nseed: {seed}\n")
    assert base_of(RunFolder(tmp_path)) == words


def test_a_later_stage_has_the_base_of_the_first(tmp_path: Path) -> None:
    stages = [tmp_path / name for name in ("sft", "grpo", "again")]
    for stage, start in zip(stages, ("org/model", *map(str, stages)), strict=False):
        stage.mkdir()
        config = f"model_name_or_path: {start}\n"
        earlier = f"track_base: {start}\n" if start in map(str, stages) else ""
        (stage / "config.yaml").write_text(f"# sparks grpo\n{config}{earlier}")
    assert {base_of(RunFolder(stage)) for stage in stages} == {"org/model"}


def test_what_is_nothing_is_refused_in_one_line(run: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no checkpoint and no record of step 7; there is 100, 200"):
        places([f"{run}@7"])
    for again in (str(run), f"{run}@200", f"{run}/../{run.name}"):
        with pytest.raises(BadInput, match="named twice"):
            places([str(run), again])
    with pytest.raises(BadInput, match="is no model: it has no config"):
        places([str(tmp_path)])
