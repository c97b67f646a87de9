"""The invariants of a training job, whole runs of a random tiny model."""

import io
import json
import re
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import yaml

from tracking import BadInput, Ledger, Timeline
from tracking.timeline.summary import Summary

Run = Callable[..., Path]
JOBS = ["grpo", "sft"]


def weights(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def sft(run_job: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracked SFT run that has ended, only read; beside it, what it said."""
    return ended("sft", run_job, tmp_path_factory.mktemp("sft"))


@pytest.fixture(scope="module")
def grpo(run_job: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracked GRPO run that has ended, only read; beside it, what it said."""
    folder = tmp_path_factory.mktemp("grpo")
    return ended("grpo", run_job, folder, track_contrasts=["cue", "operand"])


def ended(job: str, run_job: Run, folder: Path, **keys: object) -> Path:
    with redirect_stdout(io.StringIO()) as printed:
        run = run_job(job, folder / "run", **keys)
    (folder / "printed").write_text(printed.getvalue())
    return run


def log_of(run: Path) -> str:
    return run.with_name("printed").read_text()


@pytest.fixture
def copy(sft: Path, tmp_path: Path) -> Path:
    """A copy of the SFT run."""
    return shutil.copytree(sft, tmp_path / "run")


def times(run: Path) -> dict[Path, int]:
    """When each file was written."""
    return {path: path.stat().st_mtime_ns for path in run.rglob("*")}


@pytest.mark.parametrize("job", JOBS)
def test_tracked_training_ends_in_the_same_bytes_as_untracked(
    job: str, run_job: Run, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    tracked = request.getfixturevalue(job)
    untracked = run_job(job, tmp_path / "untracked", track="false")
    assert Ledger(tracked / "heads").steps() == [0, 2, 4]
    assert not (untracked / "heads").exists()
    assert weights(tracked) == weights(untracked)
    for step in (2, 4):
        optimizers = [run / f"checkpoint-{step}" / "optimizer.pt" for run in (tracked, untracked)]
        assert optimizers[0].read_bytes() == optimizers[1].read_bytes()


@pytest.mark.parametrize("job", JOBS)
def test_the_model_card_says_what_happened_to_the_heads(
    job: str, request: pytest.FixtureRequest
) -> None:
    run = request.getfixturevalue(job)
    timeline, card = Timeline.read(run), (run / "README.md").read_text()
    for contrast in timeline.contrasts:
        assert Summary.of(timeline, contrast).sentence in card


def test_the_small_grpo_job_has_something_to_learn_from(grpo: Path) -> None:
    state = grpo / "checkpoint-4" / "trainer_state.json"
    norms = [row["grad_norm"] for row in json.loads(state.read_text())["log_history"]]
    assert min(norms) > 0


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "trainer_state.json"])
def test_a_damaged_checkpoint_is_skipped_or_refused_by_name(
    run_job: Run, copy: Path, capsys: pytest.CaptureFixture, name: str
) -> None:
    run = copy
    whole = weights(run)
    damaged(run / "checkpoint-4" / name)
    with pytest.raises(BadInput, match=f"checkpoint-4 is no complete checkpoint.*{name}"):
        run_job("sft", run, resume_from_checkpoint=run / "checkpoint-4")
    run_job("sft", run, resume_from_checkpoint="latest")
    assert re.search(f"skipped .*checkpoint-4: .*{name}", capsys.readouterr().out)
    assert weights(run) == whole


@pytest.mark.parametrize(
    ("job", "keys", "message"),
    [
        ("sft", {}, "is at its end already, step 4"),
        (
            "sft",
            {"max_steps": 6, "track_pairs_count": 20},
            "track_pairs_count was 16, is 20: this run's pairs",
        ),
        ("grpo", {"max_steps": 6}, "is no grpo run"),
    ],
)
def test_a_job_that_cannot_go_on_with_the_run_is_refused(
    run_job: Run, copy: Path, job: str, keys: dict[str, object], message: str
) -> None:
    before = times(copy)
    with pytest.raises(BadInput, match=message) as refused:
        run_job(job, copy, resume_from_checkpoint="latest", **keys)
    assert "\n" not in str(refused.value)
    assert times(copy) == before


def test_a_run_goes_on_only_with_its_own_pairs(run_job: Run, copy: Path, tmp_path: Path) -> None:
    run = copy
    keys = {"resume_from_checkpoint": run / "checkpoint-2"}
    with pytest.raises(BadInput, match="belongs to another run"):
        run_job("sft", tmp_path / "other", **keys)
    (run / "heads" / "pairs.safetensors").unlink()
    with pytest.raises(BadInput, match=r"pairs\.safetensors is missing"):
        run_job("sft", run, **keys)


def test_sft_shows_its_loss_by_its_name(sft: Path) -> None:
    (title,) = (line for line in log_of(sft).splitlines() if "verdict" in line)
    assert title.split()[:4] == ["step", "loss", "behaviour", "pairs"]


def test_a_run_leaves_what_the_design_says(grpo: Path) -> None:
    run = grpo
    assert {path.name for path in run.iterdir()} >= {
        "config.yaml", "checkpoint-2", "checkpoint-4", "heads", "report.png",
    }  # fmt: skip
    assert yaml.safe_load((run / "config.yaml").read_text())["max_steps"] == 4
    assert (run / "report.png").read_bytes().startswith(b"\x89PNG")
    records = Ledger(run / "heads").records()
    assert [record.reward is None for record in records] == [True, False, False]
    assert set(records[0].analyses) == {"cue", "operand"}
    log = log_of(run)
    assert re.search(r"^ +2 +\d\.\d+ +\S+ +cue +\d+( +\d+\+\d+){3} ", log, re.MULTILINE)
    assert "report.png" in log


@pytest.mark.parametrize("job", JOBS)
def test_a_dry_run_writes_the_settings_and_trains_nothing(
    job: str, run_job: Run, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = run_job(job, tmp_path / "run", dry_run="true")
    assert {path.name for path in run.iterdir()} == {".lock", "config.yaml"}
    assert "nothing was trained" in capsys.readouterr().out
    run_job(job, run, max_steps=2, track="false")  # its folder is still free


def test_a_folder_with_another_run_is_left_alone(run_job: Run, copy: Path) -> None:
    before = times(copy)
    with pytest.raises(BadInput, match="holds another run"):
        run_job("sft", copy)
    assert times(copy) == before


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"model_name_or_path": "/no/such/folder"}, "/no/such/folder"),
        ({"dataset_name": "missing.jsonl", "track_contrasts": "operand"}, "no such file"),
        ({"track_contrasts": "answer"}, "no prompt pairs of contrast 'answer'"),
        ({"track_pairs_minimum": 17}, "track_pairs_minimum is 17, more than"),
        ({"resume_from_checkpoint": "latest"}, "has no run to resume"),
        ({"dataset_train_split": "nonsense"}, "splits train and test"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_nothing_is_written(
    run_job: Run, tmp_path: Path, keys: dict[str, object], message: str
) -> None:
    with pytest.raises(BadInput, match=message) as refused:
        run_job("grpo", tmp_path / "run", **keys)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_too_few_pairs_are_told_with_what_was_dropped(run_job: Run, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    row = json.dumps({"question": "How many?", "answer": "None.\n#### 0"})
    rows.write_text(f"{row}\n" * 2)
    keys = {"dataset_name": rows, "reward_funcs": "accuracy_reward", "track_contrasts": "operand"}
    with pytest.raises(
        BadInput, match=r"pairs 'operand': 0 usable pairs of 2 .*dropped: 2 the answer"
    ):
        run_job("grpo", tmp_path / "run", **keys)
    assert not (tmp_path / "run").exists()


def test_an_unsupported_architecture_is_refused_before_training(
    run_job: Run, tmp_path: Path
) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    from train.tiny import tokenizer as tiny

    folder = tmp_path / "gpt2"
    config = GPT2Config(vocab_size=103, n_embd=8, n_layer=1, n_head=2, n_positions=64)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    with pytest.raises(BadInput, match=r"cannot track a 'gpt2' model.*supported: .*llama, mistral"):
        run_job("sft", tmp_path / "run", model_name_or_path=folder)


def test_a_lora_run_is_tracked_as_it_trains(run_job: Run, tmp_path: Path) -> None:
    keys = {"use_peft": "true", "lora_r": 4, "lora_target_modules": "all-linear"}
    run = run_job("sft", tmp_path / "run", learning_rate=0.01, **keys)
    first, *_, last = Ledger(run / "heads").records()
    assert (run / "adapter_model.safetensors").exists()
    change = last.analyses["cue"].scores.edge_scores - first.analyses["cue"].scores.edge_scores
    assert change.abs().max() > 0
