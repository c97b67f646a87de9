"""`sparks ablate` as a user calls it, on the shipped base, and on a run with records by hand."""

import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.builders.timelines import records_named
from tracking import Graph, Ledger
from tracking.views.solving.tables import beside
from train import cli
from train.tiny.base import base_model

GRAPH = Graph(4, 6)
QUICK = ("--benchmarks", "tiny-easy", "--limit", "4", "--samples", "1", "--temperature", "0",
         "--max_new_tokens", "36", "--batch_size", "64")  # fmt: skip


def ablate(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["sparks", "ablate", *map(str, words)])
    cli.main()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that ended with the shipped base, in which one head was recruited."""
    folder = tmp_path / "run"
    shutil.copytree(base_model(), folder)
    (folder / "config.yaml").write_text("seed: 0\n")
    shares = {"L0H1": (0.4, 0.4), "L1H3": (0.0, 0.4)}
    for record in records_named(GRAPH, shares):
        Ledger(folder / "heads").write(record)
        (folder / f"checkpoint-{record.step}").mkdir()
    return folder


def test_heads_by_name_are_held_against_random_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ablate(monkeypatch, "tiny", "--heads", "L1H3,L2H2", "M2", "--mode", "zero", "mean", "zero",
           "--controls", 5, "--output_dir", tmp_path / "out", *QUICK)  # fmt: skip
    table = pd.read_parquet(tmp_path / "out" / "ablation.parquet")
    assert list(table["heads"] + " " + table["mode"]) == [
        "L1H3,L2H2 zero", "L1H3,L2H2 mean", "M2 zero", "M2 mean",
    ]  # fmt: skip
    assert list(table["layer_sets"].fillna(0)) == [5, 5, 0, 0]
    printed = capsys.readouterr().out
    assert printed.count("tiny-easy: with ") == 4
    assert "there are no random nodes to compare with" in printed or "no change is shown" in printed


def test_the_states_of_a_run_name_its_heads_and_controls(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ablate(monkeypatch, run, "--heads", "recruited", "active", "--controls", 5, "--into", "tiny",
           "--each", *QUICK)  # fmt: skip
    folder = run / "evals" / "final"
    table = pd.read_parquet(folder / "ablation.parquet")
    assert list(table["nodes"]) == ["L1H3", "L0H1,L1H3"] * 2
    assert list(table["mode"]) == ["zero", "zero", "graft", "graft"]
    assert (table["change"][2:] == 0).all(), "the same model's heads change nothing"
    assert len(pd.read_parquet(folder / "heads.parquet")) == len(GRAPH.head_names)
    assert not (folder / "ablation.png").exists(), "one benchmark has nothing to stand against"
    each = pd.read_parquet(folder / "heads.parquet").set_index("nodes")
    assert each["share"].abs().idxmax() in ("L0H1", "L1H3"), "the shares of the last record"
    rows = pd.read_parquet(folder / "responses")
    sets = {name.split(" ")[1] for name in rows["condition"].unique() if "," in name}
    assert all("L1H3" not in nodes for nodes in sets - {"L0H1,L1H3"})
    assert "to generate" in capsys.readouterr().out


def test_halves_labels_and_attention_lie_beside_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--heads", "L0H0,L0H2", "--controls", 0, "--halves", "--output_dir", tmp_path)
    more = ("--limit", 18, "--samples", 2, "--temperature", 0.6)
    ablate(monkeypatch, "tiny", *words, *QUICK, *more)
    tables = beside(tmp_path)
    assert {*tables} == {"halves", "labels", "trade_off", "attention"}
    assert {head for heads in tables["attention"]["heads"] for head in heads} == {"L0H0", "L0H2"}
    halves = tables["halves"]
    assert list(halves["benchmark"]) == ["tiny-easy, easier", "tiny-easy, harder"]
    assert halves["problems"].sum() == 18 and {*halves["mode"]} == {"zero"}
    assert list(tables["trade_off"]["what"]) == ["as it is", "L0H0,L0H2 zero"]
    assert list(pd.read_parquet(tmp_path / "harder.parquet")["hard"]) == ["tiny-easy, harder"]
    printed = capsys.readouterr().out
    assert "halves     tiny-easy: " in printed and (tmp_path / "ablation.png").exists()
    ablate(monkeypatch, "tiny", *words[:4], *words[5:], *QUICK, *more)
    assert not {"halves", "trade_off"} & {*beside(tmp_path)}, "those of another question"
    assert not any((tmp_path / name).exists() for name in ("ablation.png", "harder.parquet"))


@pytest.mark.parametrize(
    ("words", "mistake"),
    [
        (("--heads", "L9H0"), "'L9H0' is no head or MLP"),
        (("--heads", "active"), "only a run with records knows them"),
        (("--heads", "L1H3", "--mode", "scale:nan"), "the factor must be a finite number"),
        (("--heads", "L1H3", "--mode", "half"), "no mode 'half'"),
        (
            ("--heads", "L1H3", "--limit", "1"),
            "tiny-easy has 1 problem; a comparison needs at least",
        ),
        (("--heads", "L1H3", "--controls", "4"), "--controls is 4; 0 (none) or at least 5"),
        (("--heads", "L1H3", "--benchmarks", "tiny-eazy"), "unknown benchmark 'tiny-eazy'"),
        (("--heads", "L1H3", "--into", "/nowhere"), "/nowhere"),
        (("--heads", "L1H3", "--into", "smollm2"), "smollm2"),  # of another shape, or not there
    ],
)
def test_a_mistake_is_one_line_before_weights_are_read(
    words: tuple[str, ...],
    mistake: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("train.checkpoints.models.Model.load", lambda *_: pytest.fail("loaded"))
    with pytest.raises(SystemExit) as ended:
        ablate(monkeypatch, "tiny", *QUICK, *words, "--output_dir", tmp_path / "out")
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert mistake in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_another_base_or_sampling_is_refused_before_weights_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--heads", "L1H3", "--controls", 0, "--output_dir", tmp_path, *QUICK)
    ablate(monkeypatch, "tiny", *words, "--into", "tiny")
    monkeypatch.setattr("train.checkpoints.models.Model.load", lambda *_: pytest.fail("loaded"))
    for more, message in (
        (("--into", base_model(1)), "grafts holds other responses: model was"),
        (("--into", "tiny", "--seed", "3"), "holds other responses: seed was 0, is 3"),
    ):
        with pytest.raises(SystemExit):
            ablate(monkeypatch, "tiny", *words, *more)
        assert message in capsys.readouterr().err


def test_a_run_whose_last_checkpoint_has_no_record_is_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "checkpoint-20").mkdir()
    with pytest.raises(SystemExit):
        ablate(monkeypatch, run, "--heads", "active", *QUICK)
    assert (
        "its last checkpoint is of step 20, its last record of step 10" in capsys.readouterr().err
    )
