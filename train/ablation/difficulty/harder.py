"""Whether switching nodes off costs more of the hard problems than of the easy ones.

Both changes are accuracies, and an accuracy near 0 or 1 has little room to change: that the hard
ones lose less may be said of nodes that they need more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.ablation.paired import Difference, apart, holm
from train.ablation.results import LEVEL, Result


@dataclass(frozen=True)
class Harder:
    """What a comparison changes in a hard benchmark, against an easy one.

    easy, hard: its results in both
    more: the hard one's change less the easy one's, of different problems
    p: that there is no difference, corrected over all that are asked together (Holm)
    controls: by matching, the same of how far `off` is above the control sets' mean
    beyond: matchings against which that is significant after Holm, with the sign of `more`
    smallest: the smallest `more` that so many problems would show in four of five studies; NaN
        where they could show none
    """

    easy: Result
    hard: Result
    more: Difference
    p: float
    controls: dict[str, Difference]
    beyond: tuple[str, ...]
    smallest: float

    @property
    def room(self) -> bool:
        """Whether the hard benchmark's accuracy could change as the easy one's does."""
        return 0 <= self.hard.on + self.easy.change.mean <= 1

    @property
    def row(self) -> dict[str, object]:
        """For a table."""
        row: dict[str, object] = {
            "heads": self.hard.comparison.target.name,
            "nodes": ",".join(self.hard.comparison.target.nodes),
            "mode": self.hard.comparison.mode.name,
            "easy": self.easy.benchmark,
            "hard": self.hard.benchmark,
            "easy_change": self.easy.change.mean,
            "hard_change": self.hard.change.mean,
            **_spread("more", self.more),
            "p": self.p,
            "smallest": self.smallest,
            "room": self.room,
        }
        for name, against in self.controls.items():
            row |= {**_spread(f"{name}_more", against), f"{name}_beyond": name in self.beyond}
        return row


def harder(each: Sequence[Result], pairs: Sequence[tuple[str, str]]) -> list[Harder]:
    """Of every comparison in `each` and every pair of an easy and a hard benchmark, which have no
    problem in common."""
    by = {(one.comparison.arm.condition, one.benchmark): one for one in each}
    conditions = dict.fromkeys(one.comparison.arm.condition for one in each)
    both = [(by[one, easy], by[one, hard]) for easy, hard in pairs for one in conditions]
    more = [apart(hard.change, easy.change) for easy, hard in both]
    controls = [
        {
            name: apart(hard.controls[name][1].difference, easy.controls[name][1].difference)
            for name in hard.controls
            if name in easy.controls
        }
        for easy, hard in both
    ]
    held = [(place, name) for place, of_one in enumerate(controls) for name in of_one]
    corrected = holm(np.array([controls[place][name].p for place, name in held]))
    beyond = {
        (place, name)
        for (place, name), p in zip(held, corrected, strict=True)
        if p <= LEVEL and controls[place][name].mean * more[place].mean > 0
    }
    return [
        Harder(
            easy,
            hard,
            more[place],
            float(p),
            controls[place],
            tuple(name for name in controls[place] if (place, name) in beyond),
            more[place].smallest(LEVEL / len(both)),
        )
        for place, ((easy, hard), p) in enumerate(
            zip(both, holm(np.array([one.p for one in more])), strict=True)
        )
    ]


def _spread(name: str, one: Difference) -> dict[str, float]:
    return {name: one.mean, f"{name}_low": one.low, f"{name}_high": one.high}
