"""A study's responses with accuracies that are set by hand."""

from collections.abc import Mapping

import pandas as pd

from tracking.interventions.matched import MatchedSets
from train.ablation.arms import Comparison
from train.ablation.modes import Mode
from train.ablation.targets import Target

MODE, PROBLEMS, SAMPLES = Mode.parse("zero"), 60, 2
OTHERS = tuple((f"L0H{head}",) for head in range(1, 21))
RANDOM = MatchedSets(OTHERS, asked=20)


def responses(right: Mapping[str, float], benchmark: str = "words") -> pd.DataFrame:
    """Rows in which a condition solves a share of the problems, both samples alike."""
    rows = [
        (benchmark, f"p{problem}", sample, condition, problem < share * PROBLEMS)
        for condition, share in right.items()
        for problem in range(PROBLEMS)
        for sample in range(SAMPLES)
    ]
    names = ["benchmark", "problem", "sample", "condition", "right"]
    return pd.DataFrame(rows, columns=names).astype({"right": "boolean"})


def comparison(name: str = "L1H0") -> Comparison:
    return Comparison(Target(name, (name,)), MODE, {"layer": RANDOM})
