"""The examples run as they stand, the notebook on what the script leaves."""

import json
import os
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPT = EXAMPLES / "own_script.py"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The folder in which the script has run, and its names."""
    folder, before = tmp_path_factory.mktemp("own"), Path.cwd()
    os.chdir(folder)
    try:
        with torch.random.fork_rng():
            yield folder, runpy.run_path(str(SCRIPT))
    finally:
        os.chdir(before)


def test_the_script_is_short() -> None:
    assert len(SCRIPT.read_text().splitlines()) < 60


def test_the_script_trains_and_tracks_a_model_of_its_own(own) -> None:
    folder, names = own
    nodes = pd.read_parquet(folder / "runs/own/heads/timeline.parquet")
    assert set(nodes["step"]) == {0, 20, 40, 60}
    assert set(nodes["contrast"]) == {"digit"} and nodes["node"].nunique() == 10
    last = nodes[nodes["step"] == 60]
    assert set(last["verdict"]) <= {"sound", "weak"} and bool(last["active"].any())
    right = names["pairs"].labels[:, 0]
    with torch.no_grad():
        result = names["model"](names["pairs"].clean).logits[:, -1].argmax(-1)
    assert float((result == right).float().mean()) > 0.9  # it has learned what it is asked


def test_the_notebook_reads_and_draws_the_scripts_run(own, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own[0])
    plt.switch_backend("Agg")
    notebook = json.loads((EXAMPLES / "timeline.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] for cell in cells)  # what is kept is the code alone
    names: dict[str, Any] = {}
    try:
        for cell in cells:
            exec(compile("".join(cell["source"]), "timeline.ipynb", "exec"), names)
        drawn = [plt.figure(number) for number in plt.get_fignums()]
        assert len(drawn) == 2
        bars, lines = (figure.axes[0] for figure in drawn)
        heights = sum(patch.get_height() for patch in bars.patches)  # type: ignore[attr-defined]
        assert heights == len(names["nodes"])  # every node stands in one state at every step
        assert len(lines.lines) == names["nodes"]["node"].nunique()
    finally:
        plt.close("all")
