"""`sparks compare`, end to end on small models."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.builders.checkpoints import QUICK, save_checkpoints, save_model, write_pairs
from tracking import BadInput, Ledger
from train.commands import compare, track

Printed = pytest.CaptureFixture[str]


def compared(folder: Path, *words: object) -> Path:
    """The folder that `sparks compare` writes into."""
    compare.main([str(word) for word in (*words, "--output_dir", folder, *QUICK)])
    return folder


def louder(folder: Path, gain: float, copy: Path) -> Path:
    """A copy of a model with a gain on its last norm."""
    shutil.copytree(folder, copy)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.norm.weight *= gain
    model.save_pretrained(copy)
    return copy


def read(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"{name}.csv", keep_default_na=False)


def test_a_copy_differs_in_nothing(tmp_path: Path, capsys: Printed) -> None:
    one = save_model(tmp_path / "one", seed=3)
    other = shutil.copytree(one, tmp_path / "other")
    out = compared(tmp_path / "out", one, other, "--pairs", write_pairs(tmp_path, 16))
    assert not read(out, "behaviour_differences")["differs"].any()
    assert not read(out, "node_differences")["differs"].any()
    assert not read(out, "nodes")["word"].isin(["only", "some"]).any()
    assert "one and other are of one base" in capsys.readouterr().out


def test_a_gain_changes_the_behaviour_alone(tmp_path: Path) -> None:
    one = save_model(tmp_path / "one", seed=3)
    other = louder(one, 2.0, tmp_path / "other")
    out = compared(tmp_path / "out", one, other, "--pairs", write_pairs(tmp_path, 16))
    each = read(out, "behaviour").set_index("model")["behaviour"]
    assert each["other"] == pytest.approx(2 * each["one"], rel=1e-4)
    assert not read(out, "node_differences")["differs"].any()


def test_a_second_time_nothing_is_analysed_again(tmp_path: Path, capsys: Printed) -> None:
    models = [save_model(tmp_path / name, seed) for seed, name in enumerate("ab")]
    pairs = write_pairs(tmp_path)
    compared(tmp_path / "out", *models, "--pairs", pairs)
    assert capsys.readouterr().out.count("analysing") == 2
    first = (tmp_path / "out" / "behaviour.csv").read_bytes()
    compared(tmp_path / "out", *models, "--pairs", pairs)
    assert "analysing" not in capsys.readouterr().out
    assert (tmp_path / "out" / "behaviour.csv").read_bytes() == first
    save_model(models[1], seed=7)  # another model of that name
    compared(tmp_path / "out", *models, "--pairs", pairs)
    assert capsys.readouterr().out.count("analysing") == 1


def test_runs_are_compared_by_their_own_records(tmp_path: Path, capsys: Printed) -> None:
    theirs, pairs = save_checkpoints(tmp_path / "theirs", (100, 200)), write_pairs(tmp_path)
    words = [theirs, "--pairs", pairs, "--output_dir", tmp_path / "run", *QUICK]
    track.main([str(word) for word in words])
    capsys.readouterr()
    out = compared(tmp_path / "out", f"{tmp_path / 'run'}@100", tmp_path / "run")
    said = capsys.readouterr().out
    assert "analysing" not in said and "run@100" in said
    clean = Ledger(tmp_path / "run" / "heads").read(200).analyses["letters"].behaviour
    mean = float((clean.clean - clean.corrupted).mean())
    assert read(out, "behaviour").set_index("model")["behaviour"]["run"] == pytest.approx(mean)
    shutil.rmtree(theirs / "checkpoint-200")
    compared(tmp_path / "out", f"{tmp_path / 'run'}@100", tmp_path / "run")
    assert "run's weights are gone: no ranking is tried in it" in capsys.readouterr().out


def test_what_cannot_be_compared_is_refused_in_one_line(tmp_path: Path) -> None:
    models = [save_model(tmp_path / name, seed) for seed, name in enumerate("ab")]
    with pytest.raises(BadInput, match="two models are compared at least"):
        compared(tmp_path / "out", models[0])
    with pytest.raises(BadInput, match="--pairs is missing"):
        compared(tmp_path / "out", *models)
    with pytest.raises(BadInput, match="unrecognized arguments: --wat"):
        compared(tmp_path / "out", *models, "--wat")
