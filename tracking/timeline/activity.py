"""What decides that a head is active at a checkpoint, and whether to believe the checkpoint.

Thresholds are applied here, when records are read: another threshold is another reading of the same
records and costs no analysis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from tracking.errors import BadInput
from tracking.ledger.record import Analysis
from tracking.stability.bootstrap import Interval, interval, resamples
from tracking.stability.sets import jaccard


@dataclass(frozen=True)
class Thresholds:
    """Where active begins and inactive ends, and what makes a record weak.

    A recipe and the command line set them as `track_<name>`. Raises `BadInput` for one that is not
    above 0 and at most 1.
    """

    member: float = field(
        default=0.9, metadata={"help": "Membership (share of resamples) of an active head."}
    )
    effect: float = field(
        default=0.02,
        metadata={"help": "Least effect, in the right token's probability, of an active head."},
    )
    gap: float = field(
        default=0.05, metadata={"help": "Completeness gap above which a record is unconverged."}
    )
    weak_faithfulness: float = field(
        default=0.7, metadata={"help": "A circuit less faithful than this is marked weak."}
    )
    weak_jaccard: float = field(
        default=0.5, metadata={"help": "Split-half Jaccard below which a circuit is marked weak."}
    )

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not 0 < value <= 1:
                raise BadInput(f"track_{item.name} is {value}; it must be in (0, 1]")

    @classmethod
    def kept(cls, values: Mapping[str, float]) -> Thresholds:
        """Those that a record keeps; a default where it has none."""
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})


FEWEST = 16  # with fewer pairs a record is weak: they cannot tell


@dataclass(frozen=True)
class Activity:
    """What a sample of pairs says of heads; BoolTensors [..., head], undecided where neither."""

    active: Tensor
    inactive: Tensor

    @property
    def undecided(self) -> Tensor:
        return ~(self.active | self.inactive)

    @classmethod
    def judged(cls, membership: Tensor, effect: Interval, thresholds: Thresholds) -> Activity:
        """Active where `membership` [..., head] is high and the effect surely beyond its threshold,
        inactive where membership is low or the effect surely below."""
        least = thresholds.effect
        clear = (effect.low >= least) | (effect.high <= -least)
        below = (effect.low > -least) & (effect.high < least)
        active = (membership >= thresholds.member) & clear
        return cls(active, ((membership <= 1 - thresholds.member) | below) & ~active)


def effects(analysis: Analysis) -> Interval:
    """Every head's effect [head]: mean over pairs, and 95 % of the run's bootstrap resamples."""
    per_pair = analysis.heads.effect
    return interval(per_pair, resamples(len(analysis.stability.in_circuit), len(per_pair)))


def activity(analysis: Analysis, thresholds: Thresholds) -> Activity:
    """What all pairs say of every head at this checkpoint alone; where the behaviour is absent all
    heads are inactive."""
    membership = analysis.stability.in_circuit.float().mean(0)
    if verdict(analysis, thresholds) == "absent":
        none = torch.zeros_like(membership, dtype=torch.bool)
        return Activity(none, ~none)
    return Activity.judged(membership, effects(analysis), thresholds)


def verdict(analysis: Analysis, thresholds: Thresholds) -> str:
    """In one word: `absent` where clean and corrupted hardly differ, so that there is nothing to
    carry; `weak` where the circuit is not faithful, not the same from half the pairs, or from too
    few of them to tell; `unconverged` where the integral is not complete; else `sound`."""
    if analysis.scores.difference_low < thresholds.effect:
        return "absent"
    faithful = analysis.circuit.faithfulness >= thresholds.weak_faithfulness
    agreed = analysis.stability.jaccard >= thresholds.weak_jaccard
    if not (faithful and agreed and len(analysis.heads.effect) >= FEWEST):
        return "weak"
    return "sound" if converged(analysis, thresholds) else "unconverged"


def converged(analysis: Analysis, thresholds: Thresholds) -> bool:
    """Whether the integral of the scores is complete."""
    return analysis.scores.gap <= thresholds.gap


def null_turnover(analysis: Analysis, thresholds: Thresholds) -> Tensor:
    """Float32 [split]: turnover between two disjoint halves of the pairs on one checkpoint; a
    single NaN where the record has no halves.

    The same figure as between checkpoints, by the same rule: each half judges its heads by
    resamples of its own; a head that is undecided in the first is what all pairs say, one that is
    undecided in the second stays what it was in the first.

    An estimate, and no bound: halves have half the pairs, so more of their heads are undecided,
    and what is undecided is carried over and does not turn over. Where many heads lie near the
    thresholds, independent pairs gave up to 2.5 times as much in a simulation; but a run's pairs
    are the same at every checkpoint, which gives less.
    """
    stability = analysis.stability
    inside, mean, error = stability.half_membership, stability.half_effect, stability.half_error
    if inside is None or mean is None or error is None:
        return torch.tensor([torch.nan])
    halves = Activity.judged(inside, Interval(mean, mean - error, mean + error), thresholds)
    membership = stability.in_circuit.float().mean(0)
    now = Activity.judged(membership, effects(analysis), thresholds)
    first = torch.where(halves.undecided[:, 0], now.active, halves.active[:, 0])
    second = torch.where(halves.undecided[:, 1], first, halves.active[:, 1])
    return 1 - jaccard(first, second)
