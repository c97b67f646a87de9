"""`sparks show`: a run's table and map, also while it goes on."""

import json
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.builders.analyses import make_analysis
from tracking import BadInput, Ledger, Record, Timeline
from tracking.model.graph import Graph
from tracking.settings import Settings
from tracking.timeline.summary import Summary
from train import cli
from train.commands import report, show

Run = Callable[..., Path]


def add(run: Path, step: int, reward: float = 0.5, **overrides: Any) -> None:
    """A record in the run's ledger, in which one node more is active than ten steps before."""
    graph = overrides.pop("graph", Graph(2, 2))
    shares = 0.5 * (torch.arange(len(graph.nodes)) <= step // 10)
    analyses = {"cue": make_analysis(graph, shares, **overrides)}
    settings: dict[str, object] = vars(Settings())
    Ledger(run / "heads").write(
        Record(step, graph.n_layers, graph.n_heads, "0", analyses, reward, settings=settings)
    )


def checkpoint(run: Path, step: int, last: int) -> None:
    path = run / f"checkpoint-{step}" / "trainer_state.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"global_step": step, "max_steps": last}))


def rows(printed: str) -> list[str]:
    """The steps of the table's rows."""
    return re.findall(r"^ +(\d+) +\d\.\d{3} +\S+ +cue", printed, re.MULTILINE)


def test_a_run_is_shown_with_its_rows_map_and_sentence(
    run_job: Run, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = run_job("sft", tmp_path / "run", track_contrasts=["cue", "operand"])
    Ledger(run / "heads").mark_failed(3, RuntimeError("no room"))
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    show.main([str(run)])
    printed = capsys.readouterr().out
    assert re.findall(r"^ +(\d+) .* cue 16", printed, re.MULTILINE) == ["0", "2", "4"]
    assert "     3  not analysed: RuntimeError: no room" in printed
    assert "heads and MLPs on 'operand' pairs at step 4" in printed
    assert Summary.of(Timeline.read(run), "cue").supported in printed.splitlines()
    assert printed.rstrip().endswith("not analysed: step 3")
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before  # only looked at


def test_following_shows_each_record_as_it_comes_and_stops_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "POLL", 0.01)
    run = tmp_path / "run"
    run.mkdir()
    watch = threading.Thread(target=show.main, args=[[str(run), "--follow"]])
    watch.start()
    seen = ""

    def wait_for(text: str) -> None:
        nonlocal seen
        until = time.monotonic() + 20
        while text not in seen and time.monotonic() < until:
            seen += capsys.readouterr().out
            time.sleep(0.01)
        assert text in seen

    wait_for("waiting for the first record")
    add(run, 0, 0.125)
    wait_for(" 0.125 ")
    add(run, 10, 0.25)
    wait_for(" 0.250 ")
    add(run, 20, 0.375)
    wait_for(" 0.375 ")
    Ledger(run / "heads").supersede(after=10)  # the run is resumed at 10
    wait_for("put aside: step 20")
    add(run, 20, 0.5)
    wait_for(" 0.500 ")
    checkpoint(run, 20, last=30)
    Ledger(run / "heads").mark_failed(30, RuntimeError("no room"))
    wait_for("not analysed: RuntimeError: no room")
    assert watch.is_alive()
    checkpoint(run, 30, last=30)
    watch.join(20)
    assert not watch.is_alive()
    seen += capsys.readouterr().out
    assert rows(seen) == ["0", "10", "20", "20"]
    assert seen.count("not analysed: RuntimeError") == 1
    assert seen.count("heads and MLPs on 'cue' pairs at step 20") == 1


def test_a_run_that_goes_on_to_more_steps_is_not_over(tmp_path: Path) -> None:
    add(tmp_path, 10)
    checkpoint(tmp_path, 10, last=10)
    assert show.Watch(tmp_path)._over()
    (tmp_path / "config.yaml").write_text("max_steps: 20\n")
    assert not show.Watch(tmp_path)._over()
    (tmp_path / "config.yaml").write_text("max_steps: -1\n")
    assert show.Watch(tmp_path)._over()
    shutil.rmtree(tmp_path / "heads")
    assert not show.Watch(tmp_path)._over()  # its last checkpoint is still to be analysed


def test_models_of_any_trainer_are_over_when_each_has_its_record_or_failure(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("# sparks track x\nsteps: {0: a, 10: b, 20: c}\n")
    add(tmp_path, 0)
    add(tmp_path, 20)
    assert not show.Watch(tmp_path)._over()
    Ledger(tmp_path / "heads").mark_failed(10, RuntimeError("no room"))
    assert show.Watch(tmp_path)._over()


@pytest.mark.parametrize("follow", [[], ["--follow"]])
def test_a_damaged_record_and_an_unknown_run_are_told_in_one_line(
    tmp_path: Path, follow: list[str]
) -> None:
    with pytest.raises(BadInput, match=r"^.*nowhere: no such run$"):
        show.main([str(tmp_path / "nowhere"), *follow])
    add(tmp_path, 0)
    path = Ledger(tmp_path / "heads").path(0)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadInput, match="not a whole record"):
        show.main([str(tmp_path), *follow])


def test_a_run_without_records_and_wrong_flags_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no records; sparks track"):
        show.main([str(tmp_path)])
    with pytest.raises(
        BadInput,
        match=r"--folow; usage: sparks show \[-h\] \[--follow\] \[--control RUN2\] .* RUN$",
    ):
        show.main([str(tmp_path), "--folow"])
    with pytest.raises(BadInput, match=r"required: RUN; usage: sparks show .* RUN$"):
        show.main([])


def test_a_mistake_exits_with_2_and_no_colours_are_piped(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path, 0)
    monkeypatch.setattr(sys, "argv", ["sparks", "show", str(tmp_path)])
    cli.main()
    good = capsys.readouterr().out
    assert rows(good) == ["0"]
    assert "\x1b" not in good
    monkeypatch.setattr(sys, "argv", ["sparks", "show", str(tmp_path / "no")])
    with pytest.raises(SystemExit) as refused:
        cli.main()
    printed = capsys.readouterr()
    assert (refused.value.code, printed.out) == (2, "")
    assert re.fullmatch(r"sparks: .*no such run\n", printed.err)


def test_other_thresholds_read_the_same_records_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = Record(0, 2, 2, "0", {"cue": make_analysis(Graph(2, 2), torch.full((6,), 0.1))})
    path = Ledger(tmp_path / "heads").write(record)
    before = path.read_bytes()
    for given, active in (([], "4+2"), (["--track_share", "0.2"], "0+0")):
        show.main([str(tmp_path), *given])
        (row,) = [line for line in capsys.readouterr().out.splitlines() if " cue 16 " in line]
        assert row.split()[5] == active
    with pytest.raises(BadInput, match=r"track_share is 3\.0; it must be in"):
        show.main([str(tmp_path), "--track_share", "3"])
    assert path.read_bytes() == before and not (tmp_path / "heads" / "timeline.parquet").exists()


def test_drift_stands_against_a_control(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = Graph(2, 2)
    for name, end in (("run", 0.8), ("still", 0.5)):
        for step, share in ((0, 0.5), (10, end)):
            analysis = make_analysis(graph, share * torch.eye(6)[0], 0.01)
            Ledger(tmp_path / name / "heads").write(Record(step, 2, 2, "0", {"cue": analysis}))
    run, still = str(tmp_path / "run"), str(tmp_path / "still")
    show.main([run])
    alone = capsys.readouterr().out
    assert "has drifted (L0H0" in alone and "no control was given" in alone
    show.main([run, "--control", still])
    beside = capsys.readouterr().out
    assert "has grown (L0H0)" in beside and "set against a control run" in beside


@pytest.mark.parametrize(
    ("graph", "pairs", "clean", "message"),
    [
        (Graph(2, 3), "0", 1.0, "it is of 2 layers of 3 heads, the run of 2 of 2"),
        (Graph(2, 2), "1", 1.0, "its prompt pairs are others"),
        (Graph(2, 2), "0", 1.2, "it began with another model"),
    ],
)
def test_a_control_that_does_not_fit_is_told_in_one_line(
    graph: Graph, pairs: str, clean: float, message: str, tmp_path: Path
) -> None:
    add(tmp_path / "run", 0)
    analysis = make_analysis(graph)
    behaviour = replace(analysis.behaviour, clean=clean * analysis.behaviour.clean)
    analyses = {"cue": replace(analysis, behaviour=behaviour)}
    record = Record(0, graph.n_layers, graph.n_heads, pairs, analyses)
    Ledger(tmp_path / "other" / "heads").write(record)
    words = [str(tmp_path / "run"), "--control", str(tmp_path / "other")]
    for command in (show.main, report.main):
        with pytest.raises(BadInput) as refused:
            command(words)
        assert f"cannot be the control of {words[0]}: {message}" in str(refused.value)
        assert "\n" not in str(refused.value)
    with pytest.raises(BadInput, match="nowhere: no such run"):
        show.main([words[0], "--control", str(tmp_path / "nowhere")])
    assert not (tmp_path / "run" / "report.html").exists()
