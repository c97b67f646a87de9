"""Weights against prompt: what two models differ in, and what only their prompts.

Two weights, A and B, are read with two openings as the clean prompt, a (A's own) and b (B's own).
The paper compares Aa with Bb, each model with its own opening as clean (the swapped design); fixed
pairs compare Aa with Ba, or Ab with Bb. Shares of the behaviour in the four cells give every node

    weights      (Ba + Bb - Aa - Ab) / 2
    opening      (Ab + Bb - Aa - Ba) / 2
    interaction  (Bb - Ba) - (Ab - Aa)
    swapped      Bb - Aa, which is weights + opening: one cannot be told from the other in it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tracking.stability.bootstrap import ends, ratios
from tracking.stability.changes import change_p, discoveries

CELLS = ("Aa", "Ab", "Ba", "Bb")


@dataclass(frozen=True)
class Cell:
    """One model with one opening as the clean prompt."""

    effect: Tensor  # float32 [pair, node], in the metric's units
    behaviour: Tensor  # float32 [pair], of which shares are taken


@dataclass(frozen=True)
class Kept:
    """A share of the nodes that the swapped design calls emergent, with its 95 % interval over
    problems; NaN where it calls none so."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Emergence:
    """Nodes active in B and not in A, by the sizes of their mean shares alone."""

    swapped: Tensor  # BoolTensor [node]: Bb and not Aa
    fixed_a: Tensor  # BoolTensor [node]: Ba and not Aa
    fixed_b: Tensor  # BoolTensor [node]: Bb and not Ab
    kept_a: Kept  # of the swapped design's, those that fixed pairs call emergent too
    kept_b: Kept
    kept_both: Kept  # whichever opening is clean: these are the weights'
    null: Kept  # those that the swapped design itself calls so again, on another resample


def two_by_two(
    cells: Sequence[Cell], nodes: Sequence[str], weights: Tensor, least: float, error: float
) -> pd.DataFrame:
    """A row for each of `nodes`: its share of the behaviour in each of the four `cells`, in the
    order of `CELLS`, and `weights`, `opening`, `interaction` and `swapped`, each with its 95 %
    interval in `.._low` and `.._high`, its p in `.._p`, and in `.._surely` whether it is at least
    `least` in size and beyond resampling of the problems, after Benjamini and Hochberg over the
    nodes at the rate `error`.

    The cells hold the same problems in the same order, and `weights` [resample, pair] draws them in
    all four at once. Shares are NaN, and nothing is sure, where a cell has no behaviour.
    """
    values, draws = _shares(cells, weights)
    columns: dict[str, object] = {"node": list(nodes)}
    columns |= {f"share_{name}": value for name, value in zip(CELLS, values.numpy(), strict=True)}
    pairs = torch.stack([(~cell.effect.isnan()).sum(0) for cell in cells]).amin(0)  # [node]
    of_draws = _factors(draws)
    for name, value in _factors(values).items():
        drawn = of_draws[name]
        low, high = ends(drawn, pairs)
        p = change_p(drawn.numpy(), np.zeros(drawn.shape, np.float32), pairs.numpy())
        columns |= {name: value.numpy(), f"{name}_low": low.numpy(), f"{name}_high": high.numpy()}
        large = value.abs().numpy() >= least
        columns |= {f"{name}_p": p, f"{name}_surely": discoveries(p, error) & large}
    return pd.DataFrame(columns)


def emergence(cells: Sequence[Cell], weights: Tensor, least: float) -> Emergence:
    """Which nodes emerge from A to B by each design, active being a mean share of at least `least`
    in size, and how many of the swapped design's are left on fixed pairs.

    The rule is the paper's: means against a threshold, no tests. `cells` and `weights` are as for
    `two_by_two`. The null draws the problems again and keeps the design: a node near the threshold
    comes and goes there too.
    """
    values, draws = (shares.abs() >= least for shares in _shares(cells, weights))
    own, fixed_a, fixed_b = _emergent(values)
    drawn, drawn_a, drawn_b = _emergent(draws)
    return Emergence(
        swapped=own,
        fixed_a=fixed_a,
        fixed_b=fixed_b,
        kept_a=_kept(own, fixed_a, drawn, drawn_a),
        kept_b=_kept(own, fixed_b, drawn, drawn_b),
        kept_both=_kept(own, fixed_a & fixed_b, drawn, drawn_a & drawn_b),
        null=_kept(None, None, drawn, drawn.roll(-1, 0)),
    )


def _shares(cells: Sequence[Cell], weights: Tensor) -> tuple[Tensor, Tensor]:
    """Float32 [cell, node] and [cell, resample, node]: mean effect over mean behaviour."""
    each = [ratios(cell.effect, cell.behaviour, weights) for cell in cells]
    return torch.stack([value for value, _ in each]), torch.stack([draws for _, draws in each])


def _factors(cells: Tensor) -> dict[str, Tensor]:
    """Of shares [cell, ...], [...] each; exactly 0 where the cells that it compares are equal."""
    in_a, in_a_by_b, in_b_by_a, in_b = cells
    by_a, by_b = in_b_by_a - in_a, in_b - in_a_by_b
    return {
        "weights": (by_a + by_b) / 2,
        "opening": ((in_a_by_b - in_a) + (in_b - in_b_by_a)) / 2,
        "interaction": by_b - by_a,
        "swapped": in_b - in_a,
    }


def _emergent(active: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of BoolTensor [cell, ...]: the swapped design's and both fixed designs', [...] each."""
    in_a, in_a_by_b, in_b_by_a, in_b = active
    return in_b & ~in_a, in_b_by_a & ~in_a, in_b & ~in_a_by_b


def _kept(own: Tensor | None, other: Tensor | None, drawn: Tensor, drawn_other: Tensor) -> Kept:
    """Share of `own` [node] that is in `other` too, by default its mean over resamples
    [resample, node]; the interval is over resamples that have any."""
    of_each = _part(drawn, drawn_other)
    value = of_each.nanmean() if own is None or other is None else _part(own, other)
    low, high = of_each.nanquantile(torch.tensor([0.025, 0.975])).tolist()
    return Kept(float(value), low, high)


def _part(own: Tensor, other: Tensor) -> Tensor:
    """Float32 [...]: the share of sets [..., node] that is in others; NaN of empty ones."""
    return (own & other).sum(-1) / own.sum(-1)
