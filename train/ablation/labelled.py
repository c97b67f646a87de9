"""How often responses fail in which way with nodes off, held against on and against controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from train.ablation.arms import Comparison
from train.ablation.paired import AgainstControls, Difference
from train.ablation.results import held_against, mean_of
from train.failures.labels import LABELS


@dataclass(frozen=True)
class LabelShare:
    """How often one label holds in one benchmark under a comparison.

    on, off: share of responses, mean over problems
    change: off less on, paired over problems; not corrected over labels
    controls: the share with control sets off, and what `off` is above it, by matching; without
        those of fewer than `results.FEWEST` different sets
    """

    comparison: Comparison
    benchmark: str
    label: str
    on: float
    off: float
    change: Difference
    controls: dict[str, tuple[float, AgainstControls]]

    @property
    def shares(self) -> dict[str, float]:
        """By condition, in words."""
        of_controls = {f"controls by {n} off": one[0] for n, one in self.controls.items()}
        return {"on": self.on, "off": self.off, **of_controls}

    @property
    def row(self) -> dict[str, object]:
        """For a table."""
        row: dict[str, object] = {
            "heads": self.comparison.target.name,
            "mode": self.comparison.mode.name,
            "benchmark": self.benchmark,
            "label": self.label,
            "on": self.on,
            "off": self.off,
            "change": self.change.mean,
            "change_low": self.change.low,
            "change_high": self.change.high,
        }
        for matching, (share, against) in self.controls.items():
            row |= {
                f"{matching}_off": share,
                f"{matching}_less": against.difference.mean,
                f"{matching}_less_low": against.difference.low,
                f"{matching}_less_high": against.difference.high,
            }
        return row


def label_shares(table: pd.DataFrame, comparisons: Sequence[Comparison]) -> list[LabelShare]:
    """Of every benchmark, comparison and label, in that order; `table` as
    `failures.shares.label_table` has it."""
    out = []
    for benchmark, rows in table.groupby("benchmark", sort=False):
        shares = {
            label: rows.pivot_table(label, "problem", "condition", aggfunc="mean").dropna()
            for label in LABELS
        }
        out += [
            _share(shares[label], str(benchmark), comparison, label)
            for comparison in comparisons
            for label in LABELS
        ]
    return out


def _share(shares: pd.DataFrame, benchmark: str, comparison: Comparison, label: str) -> LabelShare:
    """`shares` are floats [problem] by condition."""
    change, against = held_against(shares, comparison)
    return LabelShare(
        comparison,
        benchmark,
        label,
        on=float(shares[""].mean()),
        off=float(shares[comparison.arm.condition].mean()),
        change=change,
        controls={
            name: (mean_of(shares, comparison.control_arms(name)), one)
            for name, one in against.items()
        },
    )
