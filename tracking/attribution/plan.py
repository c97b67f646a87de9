"""Which gradients an attribution takes, and where on the path."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from tracking.attribution.integrals import EdgeIntegral, NodeIntegral
from tracking.attribution.quadrature import Sweep, even
from tracking.errors import BadInput

METHODS = ("eap", "eap-ig", "eap-ig-activations", "clean-corrupted", "exact", "node-ig")
GAP = 0.05  # the completeness gap that adaptive steps are to stay below
KNOTS = 3  # intervals that the forward-only sweep cuts for two adaptive steps
TOLERANCE = 2 * GAP  # of one pair over the mean difference; the errors of most are far smaller


@dataclass(frozen=True)
class Plan:
    """Which gradients are taken."""

    method: str
    quadrature: str
    steps: int
    max_steps: int
    tolerance: float = 0.0  # completeness error above which an adaptive pair is done again

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise BadInput(f"unknown method {self.method!r}; one of {', '.join(METHODS)}")
        if self.steps < 1:
            raise BadInput(f"steps is {self.steps}; a path needs at least 1")
        if self.quadrature != "adaptive":  # refuses an unknown one
            even(self.quadrature, self.steps)

    @property
    def adaptive(self) -> bool:
        return self.quadrature == "adaptive" and self.method in ("eap-ig", "node-ig")

    def places(self) -> tuple[Tensor, Tensor]:
        """The same places for all pairs and their weights, float [step] each."""
        if self.method == "eap":
            return torch.ones(1), torch.ones(1)
        if self.method == "clean-corrupted":
            return torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.5])
        return even(self.quadrature, self.steps)

    def integrate(self, integral: EdgeIntegral | NodeIntegral) -> tuple[Tensor, Tensor]:
        """Scores [metric, pair, source, target] of a batch, and steps taken [pair]."""
        if self.adaptive:
            return self._adapted(integral)
        pairs, device = len(integral.batch.pairs), integral.batch.clean.device
        each = [column.to(device)[:, None].expand(-1, pairs) for column in self.places()]
        return integral.over(*each), torch.full((pairs,), len(each[0]))

    def _adapted(self, integral: EdgeIntegral | NodeIntegral) -> tuple[Tensor, Tensor]:
        """With steps placed where each pair's metric moves.

        Pairs whose completeness error is above `tolerance` are done again with twice the steps,
        up to `max_steps`.
        """
        batch = integral.batch
        first, last = batch.corrupted_loss[0], batch.clean_loss[0]
        difference, sweep = first - last, Sweep.between(first, last)
        steps, rows = self.steps, torch.arange(len(difference), device=difference.device)
        scores, total = difference, torch.zeros_like(rows)
        while len(rows) and steps <= max(self.max_steps, self.steps):
            some = integral.rows(rows)
            sweep = sweep.refined(partial(some.passes.value, some.batch), KNOTS * steps // 2)
            part = some.over(*sweep.steps(steps))
            scores = part if steps == self.steps else scores.index_copy(1, rows, part)
            total[rows] += steps
            error = (part[0, :, 0].sum(-1) - difference[rows]).abs()
            left = (error > self.tolerance).nonzero()[:, 0]
            if len(left) == 1 < len(difference):
                left = left.repeat(2)  # one row's products round by where the weights lie in memory
            rows, sweep = rows[left], sweep.rows(left)
            steps *= 2
        return scores, total
