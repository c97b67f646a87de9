"""What decides that a node is active at a checkpoint, and whether to believe the checkpoint.

Thresholds are applied here, when records are read: another threshold is another reading of the same
records and costs no analysis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np

from tracking.errors import BadInput
from tracking.ledger.record import Analysis
from tracking.timeline.shares import Shares

FEWEST = 16  # with fewer pairs a record is weak: they cannot tell
SMALL = 2.0  # so many times more edges must random circuits need to carry as much
EXACT = 0.02  # by which all edges and no edges may miss 1 and 0
SCREEN_ERROR = 0.1  # share of the nodes left out that may turn out active


@dataclass(frozen=True)
class Thresholds:
    """Where active begins and inactive ends, and what makes a record weak.

    A recipe and the command line set them as `track_<name>`. Raises `BadInput` for one that is not
    above 0 and at most 1.
    """

    share: float = field(
        default=0.05,
        metadata={
            "help": "Least share of the behaviour, lost or restored, of an active node; also the "
            "least change of it."
        },
    )
    error: float = field(
        default=0.05,
        metadata={"help": "Error rate of the tests of change, over all nodes and checkpoints."},
    )
    gap: float = field(
        default=0.05, metadata={"help": "A record with a larger completeness gap is unconverged."}
    )
    weak_faithfulness: float = field(
        default=0.7, metadata={"help": "A less faithful circuit is marked weak."}
    )
    weak_jaccard: float = field(
        default=0.5, metadata={"help": "So is one of a smaller split-half Jaccard."}
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


@dataclass(frozen=True)
class Activity:
    """What one checkpoint says of every node; bool [node], undecided where neither."""

    active: np.ndarray
    inactive: np.ndarray

    @classmethod
    def judged(cls, shares: Shares, least: float) -> Activity:
        """Active where the share lost or restored is surely at least `least` in size, inactive
        where both are surely below. Without behaviour all are inactive."""
        beyond, below = shares.activity(least)
        if not shares.there:
            return cls(np.zeros_like(shares.measured), shares.known.copy())
        return cls(np.any(beyond, axis=0), np.all(below, axis=0))

    @property
    def undecided(self) -> np.ndarray:
        return ~(self.active | self.inactive)


def verdict(analysis: Analysis, shares: Shares, thresholds: Thresholds) -> str:
    """In one word: `absent` where the behaviour is not there, so that there is nothing to carry;
    `weak` where `weaknesses` has any; `unconverged` where the integral is not complete; else
    `sound`."""
    if not shares.there:
        return "absent"
    if weaknesses(analysis, shares, thresholds):
        return "weak"
    return "sound" if converged(analysis, thresholds) else "unconverged"


def weaknesses(analysis: Analysis, shares: Shares, thresholds: Thresholds) -> list[str]:
    """What speaks against a checkpoint's circuit and states, each in a few words; empty where
    nothing does."""
    circuit, size = analysis.circuit, float(analysis.circuit.circuit.sum())
    random, error = circuit.random_size / max(size, 1), screen_error(analysis, shares, thresholds)
    faithful = thresholds.weak_faithfulness
    against = {
        f"faithfulness {circuit.faithfulness:.2f}": not circuit.faithfulness >= faithful,
        f"faithfulness not surely above {circuit.faithfulness_low:.2f}": (
            circuit.faithfulness >= faithful and not circuit.faithfulness_low >= faithful
        ),
        f"random circuits of {random:.1f} times the edges carry as much": random < SMALL,
        f"halves of the pairs share {analysis.stability.jaccard:.0%} of heads": not (
            analysis.stability.jaccard >= thresholds.weak_jaccard
        ),
        f"all edges give {circuit.all_edges:.2f}": abs(circuit.all_edges - 1) > EXACT,
        f"no edges give {circuit.no_edges:.2f}": abs(circuit.no_edges) > EXACT,
        f"{error:.0%} of the nodes left out are active": error > SCREEN_ERROR,
        f"{shares.pairs} pairs": shares.pairs < FEWEST,
    }
    return [words for words, holds in against.items() if holds]


def screen_error(analysis: Analysis, shares: Shares, thresholds: Thresholds) -> float:
    """Share of the nodes measured as a sample of those left out that are active; 0 without any."""
    sampled = analysis.nodes.sampled.numpy()
    active = Activity.judged(shares, thresholds.share).active
    return float(active[sampled].mean()) if sampled.any() else 0.0


def converged(analysis: Analysis, thresholds: Thresholds) -> bool:
    """Whether the integral of the scores is complete."""
    return analysis.scores.gap <= thresholds.gap
