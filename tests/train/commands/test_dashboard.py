"""The view of `sparks dashboard`, held against what real runs log, and what a run leaves in W&B."""

import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import wandb
import yaml

from tests.builders.paths import TINY
from tests.builders.wandb_files import history, increments, keys, merged, rows_of
from tracking import BadInput, Ledger, Timeline
from tracking.timeline.columns import COUNTS, names
from tracking.views.dashboard import ever_active, logged
from train.commands import dashboard

Run = Callable[..., Path]
LENIENT = {"track_share": 0.001}  # so that a random model has active nodes


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No key and no variables of the user's; the last job's run is ended."""
    for name in variables():
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    yield
    wandb.finish()


def segments(folder: Path) -> list[Path]:
    """The folders of a run in W&B, one a process, in order."""
    wandb.finish()
    return sorted(folder.glob("wandb/offline-run-*"), key=lambda path: path.stat().st_mtime_ns)


def metrics(panel: dict) -> list[str]:
    """What a panel of a spec shows."""
    shown = panel["config"]
    if "panel2Config" in shown:
        return [shown["panel2Config"]["exp"]["fromOp"]["inputs"]["key"]["val"]]
    return shown.get("metrics", []) + shown.get("mediaKeys", [])


def printed(capsys: pytest.CaptureFixture, *arguments: str) -> Any:
    dashboard.main([*arguments, "--print"])
    return json.loads(capsys.readouterr().out)


def test_two_jobs_of_a_process_are_in_w_and_b_as_in_their_ledgers(
    run_job: Run, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    before = variables()
    both = {"track_contrasts": ["cue", "operand"], "report_to": "wandb", **LENIENT}
    keys_of_both = {"eval_strategy": "steps", "eval_steps": 4, **both}
    jobs = {name: run_job(name, tmp_path / name, **keys_of_both) for name in ("grpo", "sft")}
    assert variables() == before
    seen: set[str] = set()
    for name, folder in jobs.items():
        (segment,) = segments(folder)
        check_rows(segment, Timeline.read(folder))
        check_config(segment, folder, name)
        seen |= {key.removesuffix(".path") for row in history(segment) for key in row}
    capsys.readouterr()
    sections = printed(capsys, "tiny")["spec"]["section"]["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections] == ["Reward", "Heads", "Picture and table"]
    for section in sections:
        for panel in section["panels"]:
            assert metrics(panel)
            # a random model has no behaviour, so that nothing is logged of wires
            carried = {f"heads/{logged(name)}" for name in names(COUNTS, "carried")}
            assert set(metrics(panel)) <= seen | carried, panel["config"].get("chartTitle")


def variables() -> dict[str, str]:
    """Those of W&B that a job may not set for the next one."""
    of_all = {"WANDB_SERVICE", "WANDB_SILENT"}  # where its service listens; whether it talks
    ours = {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}
    return {name: value for name, value in ours.items() if name not in of_all}


def check_rows(segment: Path, timeline: Timeline) -> None:
    """A row of history a checkpoint with the ledger's numbers, a table with the ledger's rows."""
    rows = [row for row in history(segment) if "heads/active" in row]
    assert [row["train/global_step"] for row in rows] == [0, 2, 4]
    for row in rows:
        for contrast, prefix in zip(timeline.contrasts, ("heads", "heads/operand"), strict=True):
            counts = (
                timeline.of_contrast(contrast)[1].set_index("step").loc[row["train/global_step"]]
            )
            for name in ("active", "mlps_active", "behaviour_low", "null_high", "jaccard"):
                assert row[f"{prefix}/{logged(name)}"] == pytest.approx(counts[name])
    assert "heads/share" not in rows[0]
    assert all(0 < row["heads/share"] < 1 for row in rows[1:])
    table = ever_active(timeline)
    written = [key for one in increments(segment) for key in keys(one)]
    assert sorted(written) == sorted(keys(table))
    assert merged(segment, "summary")["heads/verdict"] == timeline.counts["verdict"].iloc[2]


def check_config(segment: Path, folder: Path, job: str) -> None:
    config = merged(segment, "config")
    assert config["recipe"] == yaml.safe_load((folder / "config.yaml").read_text())
    assert config["job"] == job
    assert config["pairs"]["hash"] == Timeline.read(folder).records[0].pairs
    assert config["pairs"]["count"] == {"cue": 16, "operand": 16}
    assert config["tracking"]["resamples"] == 20
    (began,) = rows_of(segment, "run")
    assert began["run_id"] == (folder / "wandb-id").read_text()
    assert began["display_name"] == folder.name


def test_the_view_is_drawn_against_training_steps(capsys: pytest.CaptureFixture) -> None:
    view = printed(capsys, "tiny", "--entity", "team")
    assert (view["entity"], view["project"]) == ("team", "tiny")
    lines = [
        panel["config"]
        for section in view["spec"]["section"]["panelBankConfig"]["sections"]
        for panel in section["panels"]
        if panel["viewType"] == "Run History Line Plot"
    ]
    assert {config["xAxis"] for config in lines} == {"train/global_step"}
    shown = [config["metrics"] for config in lines]
    assert ["heads/behaviour", "heads/behaviour_lo", "heads/behaviour_hi"] in shown
    assert any("heads/wiring_kept" in metrics for metrics in shown)


def test_a_resumed_run_keeps_its_id_and_its_table(run_job: Run, tmp_path: Path) -> None:
    keys_of_both = {"report_to": "wandb", "track_contrasts": "cue", **LENIENT}
    first = run_job("sft", tmp_path / "run", max_steps=2, **keys_of_both)
    run_job(
        "sft",
        first,
        resume_from_checkpoint="latest",
        max_steps=3,
        save_steps=1,
        accept_changes="true",
        **keys_of_both,
    )
    before, after = segments(first)
    ids = {row["run_id"] for one in (before, after) for row in rows_of(one, "run")}
    assert ids == {(first / "wandb-id").read_text()}
    expected = sorted(keys(ever_active(Timeline.read(first))))
    assert sorted(key for one in increments(after) for key in keys(one)) == expected


def test_the_users_own_id_wins(
    run_job: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    folder = run_job("sft", tmp_path / "run", report_to="wandb", max_steps=2, track="false")
    (segment,) = segments(folder)
    assert {row["run_id"] for row in rows_of(segment, "run")} == {"mine"}
    assert not (folder / "wandb-id").exists()


def test_no_secret_is_written_anywhere(
    run_job: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {"WANDB_API_KEY": "0123456789abcdef" * 2 + "01234567", "HF_TOKEN": "hf_abcdefghij"}
    for name, secret in secrets.items():
        monkeypatch.setenv(name, secret)
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = run_job("sft", tmp_path / "run", report_to="wandb", max_steps=2)
    wandb.finish()
    (segment,) = segments(folder)
    assert merged(segment, "config")["recipe"]["max_steps"] == 2
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"config.yaml", "report.html", "training_args.bin"} <= {path.name for path in written}
    for path in written:
        for secret in secrets.values():
            assert secret.encode() not in path.read_bytes(), path
    with pytest.raises(BadInput, match="HF_TOKEN"):
        run_job("sft", tmp_path / "other", hub_token="hf_abc")


def test_only_the_main_process_begins_a_run(
    run_job: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train import config
    from train.run.reporting import begin_wandb

    recipe = TINY / "sft.yaml"
    words = ["--config", str(recipe), "--report_to", "wandb", "--output_dir", str(tmp_path)]
    monkeypatch.setenv("RANK", "1")
    begin_wandb(config.load("sft", words))
    assert wandb.run is None
    assert not list(tmp_path.iterdir())


def test_a_failure_of_tracking_is_alerted_to_and_training_goes_on(
    run_job: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tracking import worker

    real = worker.record

    def fails_once(model: Any, pairs: Any, settings: Any, step: int, *rest: Any, **m: Any) -> Any:
        if step == 2:
            raise RuntimeError("out of memory")
        return real(model, pairs, settings, step, *rest, **m)

    monkeypatch.setattr(worker, "record", fails_once)
    folder = run_job("sft", tmp_path / "run", report_to="wandb", track_contrasts="cue")
    (segment,) = segments(folder)
    (alert,) = [row for row in rows_of(segment, "alert") if row["title"] == "Tracking failed"]
    assert alert["text"] == "Step 2: out of memory. Training goes on."
    assert (folder / "checkpoint-4").exists()
    steps = [row["train/global_step"] for row in history(segment) if "heads/active" in row]
    assert steps == Ledger(folder / "heads").steps() == [0, 4]


def test_w_and_b_that_fails_costs_neither_training_nor_records(
    run_job: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise wandb.Error("the table was refused")

    monkeypatch.setattr(wandb.Table, "add_data", refuses)
    monkeypatch.setattr(wandb, "Image", refuses)
    with caplog.at_level(logging.WARNING, "tracking.views.dashboard"):
        folder = run_job("sft", tmp_path / "run", report_to="wandb", max_steps=2)
    assert Ledger(folder / "heads").steps() == [0, 2]
    assert not Ledger(folder / "heads").marks()
    assert (
        len([one for one in caplog.messages if "W" in one and "the table was refused" in one]) == 2
    )
    assert pd.read_parquet(folder / "heads" / "timeline.parquet")["step"].nunique() == 2


def test_tensorboard_shows_a_run(run_job: Run, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = run_job("sft", tmp_path / "run", report_to="tensorboard", max_steps=2)
    read = EventAccumulator(str(folder / "runs" / "heads"), {"images": 0})
    read.Reload()
    timeline = Timeline.read(folder)
    _, main = timeline.of_contrast(timeline.contrasts[0])
    shown = {event.step: event.value for event in read.Scalars("heads/jaccard")}
    assert shown == pytest.approx(dict(zip(main["step"], main["jaccard"], strict=True)))
    assert [event.step for event in read.Images("heads/map")] == [0, 2]


@pytest.mark.parametrize(
    ("arguments", "told_in"),
    [
        (["tiny"], "not logged in to W&B: `wandb login`, or .* --print"),
        (["team/tiny"], "project 'team/tiny' is no name in W&B"),
        (["", "--print"], "project '' is no name"),
        (["tiny", "--entity", "a b?c", "--print"], "entity 'a b.c' is no name"),
        ([], "required: PROJECT"),
        (["tiny", "--prin"], "unrecognized arguments: --prin"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    arguments: list[str], told_in: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(BadInput) as refused:
        dashboard.main(arguments)
    assert re.search(told_in, str(refused.value))
    assert "\n" not in str(refused.value)
