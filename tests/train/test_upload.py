"""What of a run would be uploaded, read with the Hub's own card reader and with git; no upload."""

import subprocess
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import HfApi, ModelCard, RepoUrl
from huggingface_hub.utils import filter_repo_objects
from trl.trainer.utils import generate_model_card

from tests.builders.runs import write_run
from tracking import Timeline
from tracking.run_folder import RunFolder
from tracking.timeline.summary import Summary
from tracking.views.conclusion import card_section, put_section
from train.upload import keep_section, leave_out


class Writes:
    """A trainer as far as cards go: it writes them as TRL does."""

    def __init__(self, run: Path) -> None:
        self.run, self.args = run, SimpleNamespace(push_to_hub=True)

    def is_world_process_zero(self) -> bool:
        return True

    def create_model_card(self, model_name: str) -> None:
        card = generate_model_card(
            base_model="Qwen/Qwen2.5-0.5B", model_name=model_name, hub_model_id=f"me/{model_name}",
            dataset_name=None, tags=["grpo", "trl"], wandb_url=None, trackio_url=None,
            trainer_name="GRPO",
        )  # fmt: skip
        card.save(self.run / "README.md")


def test_the_card_is_trl_s_with_a_section_that_the_hub_s_reader_takes(tmp_path: Path) -> None:
    run = RunFolder(write_run(tmp_path, contrasts=("cue", "<b>_x_")))
    trainer = Writes(tmp_path)
    trainer.create_model_card("tiny")
    before = ModelCard.load(run.card_path)
    timeline = Timeline.read(tmp_path)
    for _ in range(2):
        put_section(run, card_section(run, timeline))
    card = ModelCard.load(run.card_path, ignore_metadata_errors=False)
    assert card.data.to_dict() == before.data.to_dict()
    assert card.text.startswith(before.text.rstrip())
    assert card.text.count("## What training did to its heads") == 1
    assert Summary.of(timeline, "cue").sentence in card.text
    assert "records are sound" in card.text and "<b>" not in card.text


def test_a_card_that_is_written_anew_keeps_its_section(tmp_path: Path) -> None:
    run, trainer = RunFolder(write_run(tmp_path)), Writes(tmp_path)
    trainer.create_model_card("tiny")
    keep_section(trainer, run)
    trainer.create_model_card(model_name="tiny")
    bare = run.card_path.read_text()
    assert "heads" not in bare
    put_section(run, card_section(run, Timeline.read(tmp_path)))
    text = run.card_path.read_text()
    trainer.create_model_card("tiny")
    assert run.card_path.read_text() == text and text.startswith(bare.rstrip())


def test_what_is_pushed_has_the_report_and_nothing_that_was_set_aside(tmp_path: Path) -> None:
    trainer: Any = Writes(tmp_path)
    leave_out(trainer, RunFolder(tmp_path))
    stays = ["superseded/checkpoint-2/optimizer.pt", "heads/waiting/checkpoint-2/x", "wandb/run/x"]
    goes = ["README.md", "report.html", "report.png", "heads/timeline.parquet", "model.safetensors"]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    asked = ["git", "-C", tmp_path, "check-ignore", *stays, *goes]
    ignored = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    assert ignored == stays


def test_a_run_without_a_card_gets_none(tmp_path: Path) -> None:
    run = RunFolder(write_run(tmp_path))
    put_section(run, card_section(run, Timeline.read(tmp_path)))
    assert not run.card_path.exists()


def test_a_job_that_is_pushed_uploads_its_section_and_report(
    run_job: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads: list[dict[str, bytes]] = []  # what the Hub would be sent, by path

    def create(_: HfApi, repo_id: str, **_more: object) -> RepoUrl:
        return RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload(
        _: HfApi, folder_path: str, ignore_patterns: list[str], **_more: object
    ) -> Future[None]:
        folder = Path(folder_path)
        paths = [str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file()]
        kept = filter_repo_objects(paths, ignore_patterns=ignore_patterns)
        uploads.append({path: (folder / path).read_bytes() for path in kept})
        future: Future[None] = Future()
        future.set_result(None)
        return future

    monkeypatch.setattr(HfApi, "create_repo", create)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    monkeypatch.setenv("HF_TOKEN", "hf_never")
    keys = {"push_to_hub": "true", "hub_model_id": "me/tiny"}
    run = RunFolder(run_job("grpo", tmp_path / "run", track_contrasts="cue", **keys))
    last = uploads[-1]
    assert {"README.md", "report.html", "report.png", "heads/timeline.parquet"} <= {*last}
    assert {"model.safetensors", ".gitignore"} <= {*last}
    assert not any(path.startswith("checkpoint-") for path in last)
    card = ModelCard(last["README.md"].decode(), ignore_metadata_errors=False)
    facts = card.data.to_dict()
    assert facts["library_name"] == "transformers" and "grpo" in facts["tags"]
    assert card.text.count("## What training did to its heads") == 1
    assert Summary.of(Timeline.read(run.path), "cue").sentence in card.text
    assert last["report.html"] == run.report_path.read_bytes()
    assert not any(b"hf_never" in content for one in uploads for content in one.values())
