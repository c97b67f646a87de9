"""What decides that a head is active at a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tracking.stability.bootstrap import Interval


@dataclass(frozen=True)
class Thresholds:
    """Where active begins and inactive ends, and what makes a record weak."""

    member: float = 0.9  # share of resamples
    effect: float = 0.02  # probability of the right token
    gap: float = 0.05  # above this completeness gap a record is unconverged
    faithfulness: float = 0.7  # below it a record is weak
    jaccard: float = 0.5  # split-half agreement below which a record is weak
    pairs: int = 16  # fewer than these cannot tell; the record is weak


@dataclass(frozen=True)
class Verdicts:
    """What a sample of pairs says of heads; BoolTensors [..., head], undecided where neither."""

    active: Tensor
    inactive: Tensor

    @property
    def undecided(self) -> Tensor:
        return ~(self.active | self.inactive)


def verdicts(membership: Tensor, effect: Interval, thresholds: Thresholds) -> Verdicts:
    """Active where membership is high and the effect surely beyond its threshold, inactive where
    membership is low or the effect surely below."""
    least = thresholds.effect
    clear = (effect.low >= least) | (effect.high <= -least)
    below = (effect.low > -least) & (effect.high < least)
    active = (membership >= thresholds.member) & clear
    return Verdicts(active, ((membership <= 1 - thresholds.member) | below) & ~active)
