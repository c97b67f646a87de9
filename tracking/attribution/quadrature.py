"""Where on the path from the corrupted (0) to the clean prompt (1) gradients are taken.

Even rules place the same steps for all pairs. But where a model is sure of itself its metric jumps
somewhere on the path, and evenly spaced steps miss the jump. The adaptive rule looks first: forward
passes cut each pair's path where its metric bends (`Sweep`), a monotone cubic is laid through what
they saw, and gradients are taken where it is steep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from tracking.errors import BadInput

RULES = ("left", "right", "midpoint", "gauss-legendre")
QUADRATURES = (*RULES, "adaptive")
NARROW = 1e-6  # intervals are not cut further
LEVEL = 0.4  # of the steps lie evenly, so that the weights add up to about 1
CELLS = 16  # of the cubic between two knots


def even(rule: str, steps: int) -> tuple[Tensor, Tensor]:
    """Places and weights, float [step] each, the weights summing to 1.

    `left` is the reference's rule (k/m for k = 0 ... m-1), `right` the paper's (k = 1 ... m).
    """
    if rule not in RULES:
        raise BadInput(f"unknown quadrature {rule!r}; one of {', '.join(QUADRATURES)}")
    if steps < 1:
        raise BadInput(f"steps is {steps}; a path needs at least 1")
    if rule == "gauss-legendre":
        places, weights = np.polynomial.legendre.leggauss(steps)
        return torch.tensor((places + 1) / 2).float(), torch.tensor(weights / 2).float()
    shift = {"left": 0.0, "midpoint": 0.5, "right": 1.0}[rule]
    return (torch.arange(steps) + shift) / steps, torch.full((steps,), 1 / steps)


@dataclass(frozen=True)
class Sweep:
    """Where each pair's metric was looked at, in order along the path, and what it was."""

    places: Tensor  # float [pair, knot], rising from 0 to 1
    values: Tensor  # float [pair, knot]

    @classmethod
    def between(cls, first: Tensor, last: Tensor) -> Sweep:
        """Only the ends seen: `first` [pair] at 0 and `last` [pair] at 1."""
        places = torch.stack([torch.zeros_like(first), torch.ones_like(first)], dim=1)
        return cls(places, torch.stack([first, last], dim=1))

    def refined(self, metric: Callable[[Tensor], Tensor], intervals: int) -> Sweep:
        """Cut into that many intervals, each time the one in which the metric bends most.

        `metric` gives the metric [pair] at places [pair]; it is called once for every cut.
        """
        sweep = self
        while sweep.places.shape[1] <= intervals:
            index = sweep.bend().argmax(dim=1, keepdim=True)  # [pair, 1]
            place = sweep.places.gather(1, torch.cat([index, index + 1], dim=1)).mean(1)
            places = torch.cat([sweep.places, place[:, None]], dim=1)
            values = torch.cat([sweep.values, metric(place)[:, None]], dim=1)
            order = places.argsort(dim=1)
            sweep = Sweep(places.gather(1, order), values.gather(1, order))
        return sweep

    def bend(self) -> Tensor:
        """Float [pair, interval]: how much the metric's slope may change within each interval.

        By its difference from the slopes on both sides, times the width; the change of the metric
        and the width itself count a little, so that no interval stays wide because three points
        happen to lie on a line.
        """
        width, moved = self.places.diff(dim=1), self.values.diff(dim=1)
        slope = moved / width.clamp(min=NARROW)
        change = torch.nn.functional.pad(slope.diff(dim=1).abs(), (1, 1))
        total = moved.abs().sum(dim=1, keepdim=True)
        between = width * (change[:, :-1] + change[:, 1:]) / 2
        bend = between + moved.abs() / 4 + width * (total / 20 + 1e-12)
        return torch.where(width > NARROW, bend, 0)  # float32 has no middle of a narrower one

    def steps(self, count: int) -> tuple[Tensor, Tensor]:
        """Places and weights, float [step, pair], of `count` steps.

        Steps lie with density rho, their weights are 1 / (count rho): midpoints of even intervals
        after the change of variable du = rho da. rho goes with the square root of the steepness of
        the cubic: the error of a midpoint goes with the curvature there, and that is large on
        both shoulders of a jump, where its steepness has fallen off already.
        """
        columns = [
            _steps(places, values, count)
            for places, values in zip(
                self.places.double().cpu().numpy(), self.values.double().cpu().numpy(), strict=True
            )
        ]
        places, weights = torch.tensor(np.array(columns)).to(self.places).permute(1, 2, 0)
        return places, weights

    def rows(self, rows: Tensor) -> Sweep:
        """The sweep of some of the pairs."""
        return Sweep(self.places[rows], self.values[rows])


def _steps(places: np.ndarray, values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Places and weights [step] for one pair's knots [knot]."""
    within = np.arange(CELLS) / CELLS
    grid = np.append(places[:-1, None] + np.diff(places)[:, None] * within, 1.0)
    widths = np.diff(grid)
    steepness = np.sqrt(np.abs(np.diff(PchipInterpolator(places, values)(grid))) / widths)
    mean = (steepness * widths).sum()
    density = LEVEL + (1 - LEVEL) * steepness / mean if mean > 0 else np.ones_like(widths)
    so_far = np.append(0, (density * widths).cumsum())
    middles = (np.arange(count) + 0.5) / count * so_far[-1]
    cell = np.searchsorted(so_far, middles, side="right") - 1
    where = grid[cell] + (middles - so_far[cell]) / density[cell]
    return where, so_far[-1] / (count * density[cell])
