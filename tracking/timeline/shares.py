"""The share of the behaviour that each node loses and restores at a checkpoint, with its draws."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tracking.ledger.record import Analysis
from tracking.stability.bootstrap import ends, interval, ratios, resamples

DIRECTIONS = ("corrupt", "restore")


@dataclass(frozen=True)
class Shares:
    """Effects over behaviour, ratios of means over pairs.

    A node that was not measured has its attributed share in both directions: it is below the
    screen, or nobody would have left it out. A node that was measured on a part of the pairs is
    judged by these. Where the behaviour is not there, nothing can be a share of it: all are 0.
    """

    value: np.ndarray  # float [direction, node]
    draws: np.ndarray  # float32 [resample, direction, node]; NaN without behaviour in the resample
    behaviour: np.ndarray  # float32 [resample], its mean in logits
    measured: np.ndarray  # bool [node]
    known: np.ndarray  # bool [node]: measured or attributed; a record of before has neither
    seen: np.ndarray  # int [node]: pairs that it was measured on, or attributed
    there: bool  # the behaviour: the 95 % interval of its mean is above 0
    pairs: int

    @classmethod
    def of(cls, analysis: Analysis) -> Shares:
        """Of one checkpoint, on the run's bootstrap resamples of the pairs."""
        nodes = analysis.nodes
        behaviour = analysis.behaviour.clean - analysis.behaviour.corrupted  # [pair]
        weights = resamples(len(analysis.stability.entries), len(behaviour))
        measured = ~(nodes.corrupt.isnan() | nodes.restore.isnan()).all(0)
        known = measured | ~nodes.attributed.isnan().all(0)
        effects = torch.stack(
            [
                torch.where(measured, exact, nodes.attributed)
                for exact in (nodes.corrupt, nodes.restore)
            ],
            dim=1,
        )  # [pair, direction, node]
        there = behaviour_is_there(behaviour, weights)
        value, draws = (
            one.unflatten(-1, effects.shape[1:])
            for one in ratios(effects.flatten(1), behaviour, weights)
        )
        if not there:
            value, draws = torch.zeros_like(value), torch.zeros_like(draws)
        return cls(
            value=value.double().numpy(),
            draws=draws.numpy(),
            behaviour=(weights @ behaviour).numpy(),
            measured=measured.numpy(),
            known=known.numpy(),
            seen=(~effects.isnan()).sum(0).amin(0).numpy(),
            there=there,
            pairs=len(behaviour),
        )

    @cached_property
    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the 95 % interval, [direction, node] each; infinite where resamples have no
        behaviour."""
        low, high = ends(torch.from_numpy(self.draws), torch.from_numpy(self.seen))
        return low.numpy(), high.numpy()

    def activity(self, least: float) -> tuple[np.ndarray, np.ndarray]:
        """bool [direction, node]: surely at least `least` in size; surely below it, of a node that
        was not measured by its attributed share."""
        low, high = self.interval
        beyond = (low >= least) | (high <= -least)
        below = (low > -least) & (high < least)
        left_out = ~self.measured & self.known & (np.abs(self.value) < least)
        return beyond & self.measured, below | left_out

    @property
    def larger(self) -> np.ndarray:
        """int [node]: the direction in which the share is larger in size."""
        return np.abs(np.nan_to_num(self.value)).argmax(axis=0)


def behaviour_is_there(behaviour: Tensor, weights: Tensor) -> bool:
    """Whether the 95 % interval of the mean over pairs [pair] is above 0."""
    return bool(interval(behaviour[:, None], weights).low > 0)
