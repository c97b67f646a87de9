"""The easier and the harder half of a benchmark; what sorting by the same responses would do."""

import numpy as np
import pandas as pd
import pytest

from train.ablation.arms import Comparison
from train.ablation.difficulty.halves import Halves, halves_of, in_halves
from train.ablation.modes import Mode
from train.ablation.results import results
from train.ablation.targets import Target
from train.evals.grading import grade_math
from train.evals.problems import Benchmark, Problem

PROBLEMS, SAMPLES = 80, 4


def benchmark(levels: bool = False) -> Benchmark:
    numbers = range(PROBLEMS)
    problems = [
        Problem("words", f"{i}?", f"{i}", level=i % 5 + 1 if levels else None) for i in numbers
    ]
    return Benchmark("words", tuple(problems), grade_math, "")


def responses(right: np.ndarray, condition: str = "") -> pd.DataFrame:
    """`right` [problem, sample]."""
    return pd.DataFrame(
        [("words", problem.id, sample, condition, bool(right[place, sample]))
         for place, problem in enumerate(benchmark().problems) for sample in range(right.shape[1])],
        columns=["benchmark", "problem", "sample", "condition", "right"],
    ).astype({"right": "boolean"})  # fmt: skip


def solved(chance: np.ndarray, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((PROBLEMS, SAMPLES)) < chance[:, None]


def test_halves_are_told_by_even_samples_and_hold_odd_ones() -> None:
    right = np.zeros((PROBLEMS, SAMPLES), dtype=bool)
    right[:30, ::2] = True  # even samples: the first 30 are easy; odd ones: the last are
    right[60:, 1::2] = True
    halves = halves_of(benchmark(), responses(right), "the model")
    assert isinstance(halves, Halves)
    assert halves.easier == {problem.id for problem in benchmark().problems[:30]}
    assert len(halves.easier) + len(halves.harder) == PROBLEMS
    assert "all the even-numbered samples of the model" in halves.by
    rows = in_halves(responses(right), [halves])
    assert {*rows["sample"]} == {1, 3} and {*rows["benchmark"]} == {*halves.names}
    assert rows.groupby("benchmark")["right"].mean().to_dict() == {
        "words, easier": 0, "words, harder": pytest.approx(20 / 50),
    }  # fmt: skip


def test_problems_alike_are_not_told_apart_by_chance() -> None:
    """All are solved with 1/2, and nothing is done to them: the easier half is no better, and loses
    nothing. Sorted by the responses that are compared it would be, and lose a quarter."""
    chance = np.full(PROBLEMS, 0.5)
    off = Comparison(Target("L0H0", ("L0H0",)), Mode.parse("zero"), {})
    changes, naive = [], []
    for seed in range(15):
        on, after = solved(chance, seed), solved(chance, 1000 + seed)
        rows = pd.concat([responses(on), responses(after, "zero L0H0")])
        halves = halves_of(benchmark(), rows[rows["condition"] == ""], "the model")
        assert isinstance(halves, Halves)
        easier, harder = results(in_halves(rows, [halves]), [off])
        changes.append((easier.change.mean, harder.change.mean))
        best = on.mean(1) >= 0.75
        naive.append((after.mean(1) - on.mean(1))[best].mean())
    assert np.abs(np.mean(changes, axis=0)).max() < 0.05
    assert np.mean(naive) < -0.25


def test_a_data_sets_own_levels_come_first_and_use_all_samples() -> None:
    halves = halves_of(benchmark(levels=True), responses(solved(np.full(PROBLEMS, 0.5), 0)), "it")
    assert isinstance(halves, Halves)
    assert halves.by in ("up to level 2", "up to level 3")
    levels = {problem.id: problem.level or 0 for problem in benchmark(levels=True).problems}
    assert max(levels[i] for i in halves.easier) < min(levels[i] for i in halves.harder)
    rows = in_halves(responses(solved(np.full(PROBLEMS, 0.5), 0)), [halves])
    assert len(rows) == PROBLEMS * SAMPLES


@pytest.mark.parametrize(
    ("right", "message"),
    [
        (np.ones((PROBLEMS, 1), dtype=bool), "one sample a problem cannot both sort"),
        (np.ones((PROBLEMS, 4), dtype=bool), "one would have 0 problems"),
        (np.arange(PROBLEMS)[:, None] >= [5] * 4, "one would have 5 problems"),  # p at least 1 / 16
    ],
)
def test_where_there_are_no_halves_it_is_said_why(right: np.ndarray, message: str) -> None:
    assert message in str(halves_of(benchmark(), responses(right), "the model"))
    ungraded = responses(np.ones((PROBLEMS, 2), dtype=bool))
    ungraded["right"] = ungraded["right"].mask(ungraded["sample"] >= 0)
    assert "was graded" in str(halves_of(benchmark(), ungraded, "the model"))
