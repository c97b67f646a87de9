"""How often responses fail in which way, by benchmark and condition."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from train.evals.grading import grade_tiny
from train.evals.problems import Benchmark
from train.failures.labels import LABELS, Format, Response, failures

MODULUS = 10  # of the tiny task's arithmetic


def label_table(
    rows: pd.DataFrame, benchmarks: Sequence[Benchmark], boxed: bool = False
) -> pd.DataFrame:
    """`benchmark`, `problem`, `condition` of rows as `Responses.read` has them, and bool by label.

    `boxed`: whether word problems asked for answers in `\\boxed{}`. What is long is measured by
    the right responses of the model as it is (condition ""), or of all where that is not there.
    """
    forms = {one.name: _form(one, boxed) for one in benchmarks}
    medians = {name: _median_right(rows[rows["benchmark"] == name]) for name in forms}
    labelled = [
        _labels(row, *forms[row["benchmark"]], medians[row["benchmark"]])
        for row in rows.to_dict("records")
    ]
    table = pd.DataFrame(labelled, columns=list(LABELS), index=rows.index)
    return rows[["benchmark", "problem", "condition"]].join(table)


def failure_shares(
    rows: pd.DataFrame, benchmarks: Sequence[Benchmark], boxed: bool = False
) -> pd.DataFrame:
    """Float [benchmark and condition] by label: the share of responses that have it, as
    `label_table` tells them."""
    table = label_table(rows, benchmarks, boxed)
    return table.groupby(["benchmark", "condition"], sort=False)[list(LABELS)].mean()


def _form(benchmark: Benchmark, boxed: bool) -> tuple[Format, int | None]:
    if benchmark.grade is grade_tiny:
        return "digit", MODULUS
    return ("boxed" if boxed else "any"), None


def _median_right(rows: pd.DataFrame) -> float | None:
    right = rows[rows["right"].fillna(False).astype(bool)]
    own = right[right["condition"] == ""]
    lengths = (own if len(own) else right)["length"]
    return float(lengths.median()) if len(lengths) else None


def _labels(
    row: dict, form: Format, modulus: int | None, median_right: float | None
) -> dict[str, bool]:
    right = None if pd.isna(row["right"]) else bool(row["right"])
    response = Response(
        row["response"], row["answer"], right, row["cut_off"], row["length"], form, modulus
    )
    of_row = failures(response, median_right)
    return {label: label in of_row for label in LABELS}


def in_words(shares: pd.Series) -> str:
    """Labels with their shares, the most frequent first, without those that no response has."""
    some = shares[shares > 0].sort_values(ascending=False, kind="stable")
    return ", ".join(f"{label} {share:.1%}" for label, share in some.items()) or "none"
