"""What exchanges between two models make of their difference: a row each, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tracking.comparison.exchange.crossed import Crossed
from tracking.stability.bootstrap import interval, share
from tracking.stability.changes import change_p, discoveries

WAYS = ("lost", "gained")


def effect_table(
    column: str, names: Sequence[str], crossed: Crossed, weights: Tensor, level: float
) -> pd.DataFrame:
    """A row for each exchange of `names`, under `column`; rows of `crossed` are what `weights`
    [resample, row] resample.

    Columns, of `lost` and `gained` each: the mean over rows, in logits; `.._share`, that over the
    mean behaviour, NaN where this is 0, and positive where the exchange goes the behaviour's way,
    also where training made it less; each with its 95 % interval in `.._low` and `.._high`; and
    `.._p`, that it is 0. `significant`: whether either is, after Benjamini and Hochberg over all
    rows and both ways at `level`.
    """
    sign = -1.0 if float(crossed.behaviour.mean()) < 0 else 1.0
    out: dict[str, Any] = {column: list(names)}
    for way in WAYS:
        effect: Tensor = getattr(crossed, way)
        shares = share(sign * effect, sign * crossed.behaviour, weights)
        for name, bounds in ((way, interval(effect, weights)), (f"{way}_share", shares)):
            out[name] = bounds.mean.numpy()
            out[f"{name}_low"], out[f"{name}_high"] = bounds.low.numpy(), bounds.high.numpy()
        draws = (weights @ effect).numpy()
        out[f"{way}_p"] = change_p(draws, np.zeros_like(draws), len(effect))
    table = pd.DataFrame(out)
    p = table[[f"{way}_p" for way in WAYS]].to_numpy()
    return table.assign(significant=np.atleast_1d(discoveries(p, level).any(axis=1)))


def beside(run: Crossed, control: Crossed) -> tuple[Crossed, Crossed]:
    """The exchanges of a control, and those of a run less these, both against the run's behaviour;
    of the same parts in the same rows. A control's that goes the other way is turned before it is
    taken off: what it is held against is its size."""

    def less(mine: Tensor, its: Tensor) -> Tensor:
        return mine - its * (mine.mean(0) * its.mean(0)).sign()

    return (
        Crossed(run.base, run.trained, control.lost, control.gained),
        Crossed(
            run.base,
            run.trained,
            less(run.lost, control.lost),
            less(run.gained, control.gained),
        ),
    )


def surely(table: pd.DataFrame, least: float, like: pd.DataFrame | None = None) -> pd.Series:
    """bool [row]: whether a share, lost or gained, is surely at least `least` in size; with the
    sign of the same share in the table `like`, where that is given."""
    like = table if like is None else like
    above, below = (
        [
            (sign * table[f"{way}_share{end}"] >= least) & (sign * like[f"{way}_share"] > 0)
            for way in WAYS
        ]
        for sign, end in ((1, "_low"), (-1, "_high"))
    )
    return above[0] | above[1] | below[0] | below[1]


def is_there(behaviour: Tensor, weights: Tensor) -> bool:
    """Whether the 95 % interval of the mean over rows [row] leaves out 0."""
    whole = interval(behaviour[:, None], weights)
    return bool(torch.maximum(whole.low, -whole.high) > 0)
