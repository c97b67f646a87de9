"""Labels under a comparison, against shares that are set by hand."""

import pandas as pd
import pytest

from tracking.interventions.matched import MatchedSets
from train.ablation.arms import Comparison
from train.ablation.labelled import label_shares
from train.ablation.modes import Mode
from train.ablation.targets import Target
from train.ablation.view import failed_in
from train.failures.labels import LABELS

OTHERS = tuple((f"L0H{head}",) for head in range(1, 7))
COMPARISON = Comparison(
    Target("L1H0", ("L1H0",)), Mode.parse("zero"), {"layer": MatchedSets(OTHERS, asked=6)}
)


def labels(loops: dict[str, float], problems: int = 40) -> pd.DataFrame:
    """A share of the problems loops under each condition, in both samples."""
    rows = [
        {"benchmark": "words", "problem": f"p{i}", "condition": condition,
         **dict.fromkeys(LABELS, False), "loop": i < share * problems}
        for condition, share in loops.items() for i in range(problems) for _ in range(2)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_label_is_held_against_on_and_against_controls() -> None:
    controls = {f"zero {nodes[0]}": 0.1 for nodes in OTHERS}
    each = label_shares(labels({"": 0.1, "zero L1H0": 0.6, **controls}), [COMPARISON])
    assert [one.label for one in each] == list(LABELS)
    loop = each[0]
    assert (loop.on, loop.off) == (pytest.approx(0.1), pytest.approx(0.6))
    assert loop.change.mean == pytest.approx(0.5) and loop.change.low > 0.3
    share, against = loop.controls["layer"]
    assert share == pytest.approx(0.1) and against.difference.low > 0.2
    assert loop.row["layer_less"] == pytest.approx(0.5)
    assert not any(any(one.shares.values()) for one in each[1:])
    assert failed_in(each) == [
        "failures in words, L1H0 at zero: on: loop 10.0%; off: loop 60.0%; "
        "controls by layer off: loop 10.0%"
    ]
