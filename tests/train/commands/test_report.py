"""`sparks report`: the command, in this process."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders.pages import data_of
from tests.builders.runs import write_run
from tracking.errors import BadInput
from train import cli
from train.commands import report


def test_the_report_of_one_run_lies_in_its_folder(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    report.main([str(run)])
    assert [one["name"] for one in data_of((run / "report.html").read_text())["runs"]] == ["run"]


def test_it_is_the_one_that_the_run_made_at_its_end(
    run_job: Callable[..., Path], tmp_path: Path
) -> None:
    run = run_job("sft", tmp_path / "run", track_contrasts=["cue", "operand"])
    at_the_end = (run / "report.html").read_bytes()
    report.main([str(run)])
    assert (run / "report.html").read_bytes() == at_the_end


def test_the_report_of_several_runs_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [write_run(tmp_path / folder / "run") for folder in ("a", "b")]
    monkeypatch.chdir(tmp_path)
    report.main([str(run) for run in runs])
    held = data_of((tmp_path / "report.html").read_text())
    assert [one["name"] for one in held["runs"]] == ["a/run", "b/run"]


def test_figures_are_written_where_they_are_wanted(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    report.main([str(run), "-o", str(tmp_path / "x.html"), "--figures", str(tmp_path / "plots")])
    suffixes = {path.suffix for path in (tmp_path / "plots").rglob("*") if path.is_file()}
    assert suffixes >= {".png", ".svg", ".csv"}
    assert (tmp_path / "x.html").is_file() and not (run / "report.html").exists()


def test_figures_that_cannot_be_written_are_told_in_a_line(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        report.main([str(run), "--figures", str(tmp_path / "file" / "plots")])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], "none: no such run"),
        (
            [],
            "the following arguments are required: RUN; "
            "usage: sparks report [-h] [-o FILE] [--figures DIR] [--control RUN2] RUN [RUN ...]",
        ),
        (["run", "run"], "run is named twice; name each run once"),
        (["run", "-o", "."], ". is a folder; name a file: -o report.html"),
        (["bare"], "bare/heads has no records; sparks track bare makes them"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "bare").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sparks", "report", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert capsys.readouterr().err == f"sparks: {message}\n"
    assert not (tmp_path / "report.html").exists()
