"""Two conditions on the same problems: how much they differ, and whether chance would do as much.

Two statements are kept apart. `difference`: with the heads off the model solves fewer problems than
with them on. `against_controls`: it solves fewer than with random heads off, matched in number and
layer. The first says that the model needs something there; only the second says that it needs these
heads. `holm` corrects the first over all that was asked, `beyond_controls` the second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from tracking.errors import BadInput

UNITS = 3360  # steps of accuracy: means of 1 to 8, 10, 12 or 16 samples are whole numbers of them


@dataclass(frozen=True)
class Difference:
    """A mean difference of accuracies over problems.

    mean, low, high: shares of problems, with a 95 % interval
    p: two-sided, that there is none
    error, freedom: its standard error and what Student's t makes of it
    step: the largest change of one problem, over the number of problems; a permutation test needs
        at least a few of them
    """

    mean: float
    low: float
    high: float
    p: float
    error: float
    freedom: float
    step: float

    def smallest(self, level: float = 0.05, power: float = 0.8) -> float:
        """The smallest true difference that a test at `level` would show with this `power`, given
        how much problems differ here; corrected over m comparisons, the level is 0.05 / m.
        NaN where not even a difference of 1 would be shown."""
        t = stats.t(self.freedom)
        fewest = math.ceil(math.log2(2 / level))  # changes all one way: 2 / 2 ** changes
        least = max(float(t.isf(level / 2) + t.isf(1 - power)) * self.error, fewest * self.step)
        return least if least <= 1 else math.nan


def difference(one: np.ndarray, other: np.ndarray) -> Difference:
    """How much `one` is above `other`, accuracies [problem] of the same problems in the same order.

    p is that of `sign_flip_p`. The interval is Student's over problems, its spread that of the
    differences and of one more change as large as the largest (of a whole problem where none has
    changed): where few problems change, the few are no measure of how many might. In simulations
    of 30 to 200 problems x 1 to 8 samples it holds the truth in 95 to 100 % of draws, Student's
    alone in 60 to 100 % (scripts/study_paired.py), the percentile bootstrap in 81 to 100 %.

    Raises BadInput for fewer than two problems, unlike lengths or an accuracy that is no number.
    """
    if one.shape != other.shape or one.ndim != 1 or len(one) < 2:
        raise BadInput(f"paired problems are needed, not {one.shape} against {other.shape}")
    each = one - other
    if not np.isfinite(each).all():
        raise BadInput("a problem has no graded response in one of two conditions: leave it out")
    count, mean = len(each), float(each.mean())
    largest = float(np.abs(each).max()) or 1.0
    error = math.sqrt((((each - mean) ** 2).sum() + largest**2) / (count - 1) / count)
    return _difference(mean, error, count - 1, sign_flip_p(each), largest / count)


def _difference(mean: float, error: float, freedom: float, p: float, step: float) -> Difference:
    half = float(stats.t.isf(0.025, freedom)) * error
    low, high = max(mean - half, -1.0), min(mean + half, 1.0)
    return Difference(mean, low, high, p, error, freedom, step)


def apart(one: Difference, other: Difference) -> Difference:
    """How far a difference is above another one of other problems: errors added in squares, freedom
    by Satterthwaite, p Student's. What `difference` adds to each error is in here twice."""
    error = math.hypot(one.error, other.error)
    freedom = error**4 / (one.error**4 / one.freedom + other.error**4 / other.freedom)
    mean, half = one.mean - other.mean, float(stats.t.isf(0.025, freedom)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, freedom))
    low, high = max(mean - half, -2.0), min(mean + half, 2.0)
    return Difference(mean, low, high, p, error, freedom, max(one.step, other.step))


def sign_flip_p(differences: np.ndarray) -> float:
    """Two-sided p that differences [problem] are as often up as down: the permutation test that
    swaps the two conditions within problems.

    Exact at any number of problems: the distribution of the sum over all signs is a convolution,
    as differences are whole numbers of a step. Means of other numbers of samples than `UNITS` is
    for are rounded to it, and sums that this may have told apart count as equal: p is no smaller
    than the exact one. 1 where nothing differs.
    """
    signed = np.rint(differences * UNITS).astype(np.int64)
    sizes = np.abs(signed[signed != 0])
    if not sizes.size:
        return 1.0
    common = np.gcd.reduce(sizes)
    rounded = 2 * float(np.abs(differences * UNITS - signed).sum()) / common  # at most, of two sums
    sizes, observed = sizes // common, abs(int(signed.sum())) // common
    chances = np.ones(1)  # [how much is flipped]
    for size in sizes:
        unflipped = np.append(chances, np.zeros(size))
        chances = (unflipped + np.roll(unflipped, size)) / 2
    sums = sizes.sum() - 2 * np.arange(len(chances))
    return min(float(chances[np.abs(sums) >= observed - rounded - 1e-6].sum()), 1.0)


@dataclass(frozen=True)
class AgainstControls:
    """Heads against their control sets.

    difference: the heads' accuracy less the mean of the controls', over problems and sets both
    rank_p: the share of all sets, these heads among them, whose effect is as far from the median
    controls: how many there are
    """

    difference: Difference
    rank_p: float
    controls: int


def against_controls(target: np.ndarray, controls: np.ndarray) -> AgainstControls:
    """Heads off, accuracies [problem], against control sets off, [control, problem].

    Differences from the model with all heads on do as well: it falls out. The null is that the
    heads are one more random matched set. Two things vary: which problems were asked, and which
    sets were drawn. The paired test over problems alone takes the control sets for all there are,
    and any real difference between random sets for the heads': with control sets that have effects
    of their own it finds something in up to 83 % of comparisons of a control with controls.

    So the difference's error is that over problems and that over sets together (Clark's min F',
    1973: their squares added, freedom by Satterthwaite), and p the larger of Student's and of
    `sign_flip_p`. `rank_p` is exact whatever the effects look like, but no smaller than
    1 / (controls + 1), 0.048 for 20: by itself it cannot be corrected over several comparisons,
    nor reach 0.05 with fewer than 19 controls. Sets must differ: one that is drawn twice is one.

    Raises BadInput for fewer than two controls, and as `difference`.
    """
    if controls.ndim != 2 or len(controls) < 2:
        raise BadInput("heads are compared with at least two control sets, better 20")
    over_problems = difference(target, controls.mean(axis=0))
    count, effects = len(controls), controls.mean(axis=1)
    over_sets = float(effects.std(ddof=1)) * math.sqrt(1 + 1 / count)
    error = math.hypot(over_problems.error, over_sets)
    freedom = error**4 / (
        over_problems.error**4 / over_problems.freedom + over_sets**4 / (count - 1)
    )
    p = max(over_problems.p, 2 * float(stats.t.sf(abs(over_problems.mean) / error, freedom)))
    everyone = np.append(effects, target.mean())
    far = np.abs(everyone - np.median(everyone))
    equal = 1 / (2 * UNITS * target.size)  # means of the same accuracies, however they were summed
    return AgainstControls(
        _difference(over_problems.mean, error, freedom, p, over_problems.step),
        float((far >= far[-1] - equal).mean()),
        count,
    )


def beyond_controls(asked: Sequence[AgainstControls], level: float = 0.05) -> list[bool]:
    """Which of all comparisons that were asked are significant: p within `level` after Holm, and
    no control set as extreme, or so few that `rank_p` is within `level` too.

    Simulated (scripts/study_paired.py) on 50 problems x 1 sample, 100 x 4 and 200 x 8, with random
    sets of no, small and large effects and responses that share most or little of their chance. Of
    comparisons of a control with 20 controls 0 to 4.5 % are significant, 1.7 % on average (with 5
    controls 0 to 6.5 %, 2 %). Heads that take one logit are told in 24 to 79 %, 81 to 100 % and 88
    to 100 % of draws: what makes random sets differ, not the number of problems, is the limit.
    Asked with planted heads that take three logits (100 x 4), one control more is significant in 0
    of 300 draws where control sets do nothing, in 1 to 3 % where they have effects of their own.
    """
    corrected = holm(np.array([one.difference.p for one in asked]))
    return [
        bool(p <= level and one.rank_p <= max(level, 1 / (one.controls + 1)))
        for p, one in zip(corrected, asked, strict=True)
    ]


def holm(p: np.ndarray) -> np.ndarray:
    """p-values [comparison] corrected over all of them (Holm 1979): those within a level are
    wrong, any of them, with that chance at most."""
    order = np.argsort(p)
    times = np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * times), 1.0)
    return corrected
