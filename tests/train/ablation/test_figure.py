"""The trade-off's points are the accuracies of the responses."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tracking.interventions.matched import MatchedSets
from train.ablation.arms import Comparison
from train.ablation.figure import AS_IT_IS, CONTROL, trade_off, write_trade_off
from train.ablation.modes import Mode
from train.ablation.targets import Target
from train.evals.estimates import share

CONDITIONS = {"": (0.9, 0.5), "zero L1H0": (0.8, 0.1), "zero L0H1": (0.7, 0.6)}


def responses(problems: int = 20) -> pd.DataFrame:
    rows = [
        (benchmark, f"p{i}", 0, condition, i < solved * problems, 5, False)
        for condition, both in CONDITIONS.items()
        for benchmark, solved in zip(("easy", "hard"), both, strict=True)
        for i in range(problems)
    ]
    names = ["benchmark", "problem", "sample", "condition", "right", "length", "cut_off"]
    return pd.DataFrame(rows, columns=names).astype({"right": "boolean"})


def test_every_condition_is_a_point_with_its_intervals(tmp_path: Path) -> None:
    controls = {"layer": MatchedSets((("L0H1",),), asked=1)}
    held = [Comparison(Target("mine", ("L1H0",)), Mode.parse("zero"), controls)]
    table = trade_off(responses(), held, [("easy", "hard")], "the model")
    assert list(table["what"]) == [AS_IT_IS, CONTROL, "mine zero"]
    wanted = [CONDITIONS[name] for name in ("", "zero L0H1", "zero L1H0")]
    np.testing.assert_allclose(table[["x", "y"]], wanted)
    gain = share([1.0] * 18 + [0.0] * 2)
    assert table["x_low"][0] == pytest.approx(gain.low) and table["x_high"][0] == gain.high
    write_trade_off(table, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
