"""A ledger that goes to W&B and comes back; what the service itself does is not tried here."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import wandb

from tests.builders.pages import data_of
from tests.builders.paths import TINY
from tests.builders.runs import write_run
from tests.builders.wandb_files import rows_of
from tracking import BadInput, Timeline
from tracking.ledger.ledger import Mark
from tracking.run_folder import RunFolder
from train import archive, config
from train.archive import artifact_of, fetched, keep_ledger
from train.commands import report

NAME = "me/sparks/ab12"


class Stored:
    """What W&B gives of an artifact that was logged, as far as it is asked."""

    version = "v3"

    def __init__(self, artifact: wandb.Artifact) -> None:
        self.artifact = artifact

    def download(self, root: str) -> str:
        for name, entry in self.artifact.manifest.entries.items():
            path = Path(root) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(entry.local_path), path)
        return root


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = write_run(tmp_path / "run")
    (folder / "config.yaml").write_text("# sparks grpo\nlearning_rate: 0.5\n")
    (folder / "model.safetensors").write_text("weights")
    ledger = RunFolder(folder).ledger
    ledger.mark(Mark(30, "failed", "no memory"))
    ledger.pairs_path.write_bytes(b"pairs")
    ledger.timeline_path.write_bytes(b"rows")
    return folder


@pytest.fixture
def service(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The artifacts of a stand-in for W&B by run, asked for in the place of the public API."""
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SPARKS_CACHE", str(tmp_path / "cache"))
    stored = {NAME: Stored(artifact_of(RunFolder(run), "ab12"))}
    monkeypatch.setattr(archive, "_artifact", stored.__getitem__)
    return stored


def test_what_comes_back_is_the_ledger_and_no_weights(run: Path, service: dict) -> None:
    folder = fetched(NAME)
    came = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    sent = [run / "config.yaml", *(p for p in (run / "heads").iterdir() if p.name[0] != ".")]
    assert came == {path.relative_to(run) for path in sent}
    assert all((folder / path).read_bytes() == (run / path).read_bytes() for path in came)
    shutil.rmtree(folder / "heads")
    assert fetched(NAME) == folder and not (folder / "heads").exists()  # it is not fetched twice
    service[NAME].version = "v4"
    assert Timeline.read(fetched(NAME)).nodes.equals(Timeline.read(run).nodes)


def test_a_report_is_made_of_it_here(
    service: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report.main([f"wandb://{NAME}"])
    (shown,) = data_of((tmp_path / "report.html").read_text())["runs"]
    assert shown["name"] == "ab12"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("me/sparks/other", "W&B gives no ledger"),
        ("me/sparks", "it must be wandb://ENTITY/PROJECT/RUN"),
        ("me/../ab12", "it must be wandb://ENTITY/PROJECT/RUN"),
    ],
)
def test_what_cannot_be_fetched_is_told_in_a_line(service: dict, name: str, line: str) -> None:
    with pytest.raises(BadInput, match=line) as refused:
        fetched(name)
    assert "\n" not in str(refused.value)


def test_who_is_not_logged_in_is_told_so(service: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "wandb_key", lambda: False)
    with pytest.raises(BadInput, match="not logged in to W&B; run: wandb login"):
        fetched(NAME)


def test_a_job_keeps_it_offline_if_it_is_told_to(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    words = ["--config", str(TINY / "grpo.yaml"), "--output_dir", str(run)]
    settings = wandb.Settings(silent=True)
    began = wandb.init(mode="offline", dir=tmp_path, id="ab12", settings=settings)
    keep_ledger(config.load("grpo", [*words, "--report_to", "wandb"]))
    assert "to W&B" not in capsys.readouterr().out
    keep_ledger(config.load("grpo", [*words, "--report_to", "wandb", "--log_ledger"]))
    began.finish()
    assert "to W&B, as ab12-ledger" in capsys.readouterr().out
    (logged,) = tmp_path.glob("wandb/offline-run-*")
    (artifact,) = rows_of(logged, "artifact")
    assert (artifact["name"], artifact["type"]) == ("ab12-ledger", "ledger")
    with pytest.raises(BadInput, match=r"log_ledger .* needs report_to wandb"):
        config.load("grpo", [*words, "--report_to", "none", "--log_ledger"])
