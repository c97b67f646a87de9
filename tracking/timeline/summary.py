"""What a run did to the behaviour and who carries it, in a few sentences and their figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
import pandas as pd

from tracking.ledger.record import Analysis
from tracking.stability.bootstrap import interval, resamples
from tracking.timeline.activity import SMALL, Activity, weaknesses
from tracking.timeline.node_table import (
    against_nodes,
    crossed_nodes,
    interrupted_nodes,
    lapsed_nodes,
    relative_nodes,
)
from tracking.timeline.regime import Regime
from tracking.timeline.shares import Shares
from tracking.timeline.timeline import Timeline

NAMED = 6  # nodes that a sentence names of one kind
WIRED = 0.1  # of what today's own circuits carry: a smaller loss is not another wiring
MOST = 0.5  # of the same
FAINT = 0.02  # of probability: less is not seen in what a model writes
MOST_DECIMALS = 5
SUFFICE, PARTLY = "the old wires suffice", "the old wires carry most of it, not all"
LACK, UNTOLD = "the old wires do not suffice", "whether the old wires suffice cannot be told"
ORIGINS = {"recruited": "recruited", "with the behaviour": "emerged with the behaviour"}


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        decimals = 2
        while self._seems_to_touch_zero(decimals):  # "0.00 (0.00 to 0.00)" of what is surely more
            decimals += 1
        value, low, high = (_short(one, decimals) for one in (self.value, self.low, self.high))
        return f"{value} ({low} to {high})"

    def _seems_to_touch_zero(self, decimals: int) -> bool:
        nearest = min(abs(self.low), abs(self.high))
        return (
            self.low * self.high > 0 and decimals < MOST_DECIMALS and not round(nearest, decimals)
        )

    @property
    def turned(self) -> Figure:
        """With the other sign: a loss of what was a change."""
        return Figure(-self.value, -self.high, -self.low)


@dataclass(frozen=True)
class Summary:
    """A run's last checkpoint against its first, on the prompt pairs of one contrast.

    Nodes are named in the graph's order. `carriers` are the active ones by where they come from:
    `base`, `recruited`, `with the behaviour`; without those that are surely `small` today.
    """

    contrast: str
    steps: tuple[int, int]  # first and last analysed
    checkpoints: int
    behaviour: tuple[Figure, Figure]  # at first and last, in logits
    growth: Figure  # their paired difference
    probability: tuple[float, float]  # of the right token, clean less corrupted
    carriers: dict[str, Sequence[str]]
    against: Sequence[str]  # of these and the `unsettled`, those whose share is negative
    together: float  # share lost with all that are surely active today corrupted; NaN where unknown
    small: Sequence[str]  # active by their state, surely below the threshold today
    large: Sequence[str]  # inactive by their state, surely above it today
    crossed: Sequence[str]  # of the carriers, those that began on the other side of 0
    interrupted: Sequence[str]  # of these, those that were not active at all checkpoints since
    cohorts: dict[str, int]  # of emergent nodes that are active, the step at which they emerged
    scored: Sequence[str]  # of the emergent ones, those that step 0 knew by their scores alone
    faded: Sequence[str]
    lapsed: Sequence[str]  # active at the first checkpoint and, at any later one, no more
    transient: Sequence[str]  # emerged and active no more
    relative: Sequence[str]  # emerged or faded by share alone: in logits they did not move so
    drifted: dict[str, Sequence[str]]  # by `drift`
    furthest: float  # of any node's share since the first checkpoint (`Timeline.drift`)
    lasting: Sequence[str]  # changed for more than the run's own fluctuation
    undecided: Sequence[str]  # step 0 could not tell, so they have no history
    unsettled: Sequence[str]  # without a history and surely active today
    wiring: Figure  # kept at the run's size; NaN where unknown
    wiring_null: Figure
    wiring_half: Figure  # at half of it, where less of the circuit is room
    wiring_half_null: Figure
    random: float  # times the circuit's edges that random circuits need to carry as much
    began: str  # the verdict of the first record
    verdict: str  # of the last record
    weaknesses: Sequence[str]  # of the last record
    absent: int  # checkpoints between the first and the last without the behaviour
    sound: int  # checkpoints whose verdict is sound
    control: Summary | None  # of a run in which nothing was taught
    regime: Regime

    @classmethod
    def of(cls, timeline: Timeline, contrast: str) -> Summary:
        """Of all checkpoints so far; `BadInput` for an unknown contrast."""
        nodes, counts = timeline.of_contrast(contrast)
        first, last = counts.iloc[0], counts.iloc[-1]
        now = nodes[nodes["step"] == last["step"]].set_index("node")
        now = now.assign(place=np.arange(len(now)))
        analyses = [record.analyses[contrast] for record in timeline.records]
        began = nodes[nodes["step"] == first["step"]].set_index("node")
        shares = Shares.of(analyses[-1])
        today = Activity.judged(shares, timeline.thresholds.share)
        growth = _growth(analyses[0], analyses[-1])
        known = (first["verdict"] != "absent") | (growth.low > 0)  # else shares had no start
        undecided = (now["state"] == "undecided") | (~now["active"] & ~known)
        there = now[now["active"] & ~today.inactive]
        carrying = now[now["active"] & ~today.inactive | undecided & today.active]
        as_recorded = (analyses[-1].nodes.together.numpy() == today.active).all()
        origin = there["origin"].replace("", "base")
        drift = now["drift"]
        return cls(
            contrast=contrast,
            steps=(int(first["step"]), int(last["step"])),
            checkpoints=len(counts),
            behaviour=(_figure(first, "behaviour"), _figure(last, "behaviour")),
            growth=growth,
            probability=(float(first["probability"]), float(last["probability"])),
            carriers={word: tuple(origin[origin == word].index) for word in ("base", *ORIGINS)},
            against=against_nodes(carrying, shares, timeline.thresholds.share),
            together=float(last["together_corrupt"]) if bool(as_recorded) else nan,
            small=tuple(now.index[now["active"] & today.inactive]),
            large=tuple(now.index[~now["active"] & ~undecided & today.active]),
            crossed=crossed_nodes(nodes, there),
            interrupted=interrupted_nodes(nodes, there),
            cohorts={str(k): int(v) for k, v in now[now["active"]]["cohort"].dropna().items()},
            scored=tuple(now.index[now["cohort"].notna() & now["active"] & ~began["measured"]]),
            faded=tuple(now.index[now["state"] == "faded"]),
            lapsed=lapsed_nodes(nodes),
            transient=tuple(now.index[now["state"] == "pruned"]),
            relative=relative_nodes(
                began, now, float(first["behaviour"]), float(last["behaviour"])
            ),
            drifted={w: tuple(drift[drift == w].index) for w in drift.unique() if w},
            furthest=timeline.drift(contrast) if len(counts) > 1 else nan,
            lasting=tuple(now.index[now["lasting"] & (now["state"] != "undecided")]),
            undecided=tuple(now.index[now["state"] == "undecided"]),
            unsettled=tuple(now.index[undecided & today.active]),
            wiring=_figure(last, "wiring_kept"),
            wiring_null=_figure(last, "wiring_null"),
            wiring_half=_figure(last, "wiring_kept_half"),
            wiring_half_null=_figure(last, "wiring_null_half"),
            random=float(last["random_size"]) / max(int(last["edges"]), 1),
            began=str(first["verdict"]),
            verdict=str(last["verdict"]),
            weaknesses=weaknesses(analyses[-1], shares, timeline.thresholds),
            absent=int((counts["verdict"].iloc[1:-1] == "absent").sum()),
            sound=int((counts["verdict"] == "sound").sum()),
            control=timeline.control and Summary.of(timeline.control, contrast),
            regime=Regime.of(nodes, counts, contrast),
        )

    @property
    def sentence(self) -> str:
        """What happened: the behaviour, who carries it and since when, whether the wires are the
        old ones, what supports it."""
        if self.checkpoints == 1:
            return (
                f"On {self.contrast!r} pairs one checkpoint has been analysed (step "
                f"{self.steps[0]}): the behaviour is {self.behaviour[0]} logits, carried by "
                f"{listed(self._named('base')) or 'no node for sure'}; nothing can be said yet "
                "of change."
            )
        return " ".join(self.parts)

    @property
    def parts(self) -> list[str]:
        """The sentences of `sentence`, for who has a line for each."""
        if self.checkpoints == 1:
            return [self.sentence]
        return [self.grew, self.carried, self.rewired, self.supported]

    @property
    def change(self) -> str:
        """`grew`, `fell`, `is not known to have changed` or, of records of before, `is not known`,
        by the paired interval."""
        if np.isnan(self.growth.value):
            return "is not known"
        if self.growth.low > 0:
            return "grew"
        return "fell" if self.growth.high < 0 else "is not known to have changed"

    @property
    def grew(self) -> str:
        """What the behaviour did."""
        if self.change == "is not known":
            return f"On {self.contrast!r} pairs the behaviour is not known (records of before)."
        first, last = self.behaviour
        changed = self.change in ("grew", "fell")
        size = self.growth.turned if self.change == "fell" else self.growth
        by = f" by {size} logits" if changed else ""
        gone = f"; at {self.absent} of the checkpoints between it was not surely there"
        return (
            f"On {self.contrast!r} pairs the behaviour {self.change}{by}, from {first} at step "
            f"{self.steps[0]} to {last} at step {self.steps[1]} (in probability "
            f"{self.probability[0]:.2f} to {self.probability[1]:.2f})"
            f"{gone if self.absent else ''}.{self._faint}"
        )

    @property
    def _faint(self) -> str:
        if self.verdict == "absent" or not max(map(abs, self.probability)) < FAINT:
            return ""
        return (
            f" It is faint: the right token is likelier on clean prompts than on corrupted ones by "
            f"less than {FAINT} of probability at both, and all shares are of so little."
        )

    @property
    def carried(self) -> str:
        """Which heads and MLPs carry it, and since when."""
        if self.verdict == "absent":
            if self.behaviour[1].high < 0:
                return "It is turned round at the end; who carries that is not asked."
            return "It is not surely there at the end, so who carries it is not asked."
        parts = []
        if base := self._named("base"):
            start = f"since step {self.steps[0]}" if self.steps[0] else "from the start"
            parts.append(f"{counted(base)} {start} ({listed(self._since(base))})")
        for origin, word in ORIGINS.items():
            if names := self._named(origin):
                since = listed(self._since(names))
                parts.append(f"{counted(names)} that {_were(names, word)} ({since})")
        if names := [name for name in self.unsettled if name not in self.against]:
            parts.append(f"{counted(names)} without a history ({listed(names)})")
        text = f"It is carried by {' and '.join(parts) or 'no node for sure'}"
        if parts and not np.isnan(self.together):
            text += f"; all that are surely active today lose {self.together:.2f} of it at once"
        if names := self.against:
            works = "works" if len(names) == 1 else "work"
            text += f"; {counted(names)} {works} against it ({listed(self._since(names))})"
        if self.scored:
            text += f"; of these step {self.steps[0]} knew {listed(self.scored)} by scores alone"
        if not (self.transient or any(self.carriers[origin] for origin in ORIGINS)):
            text += "; no recruitment was found"
        untested = "the threshold by no tested change"
        turned = (
            (self.faded, "faded"),
            (self.transient, "came and went"),
            (self.small, f"fell below {untested}"),
            (self.large, f"rose above {untested}"),
        )
        for names, word in turned:
            if names:
                text += f"; {counted(names)} {word} ({listed(names)})"
        if names := self.relative:
            text += f"; {listed(names)} by share alone, as others changed more in logits"
        for word, names in self.drifted.items():
            text += f"; the share of {counted(names)} has {word} ({listed(names)})"
        if self.undecided:
            text += (
                f"; of {counted(self.undecided)} step {self.steps[0]} could not tell "
                f"({listed(self.undecided)})"
            )
        return text + "."

    def _named(self, origin: str) -> Sequence[str]:
        """Those that carry the behaviour and do not work against it."""
        return [name for name in self.carriers[origin] if name not in self.against]

    def _since(self, names: Sequence[str]) -> Sequence[str]:
        """With the step at which they emerged, whether they were active at all since, and whether
        they did then what they do now."""
        return [
            name
            + (f" since step {self.cohorts[name]}" if name in self.cohorts else "")
            + " with breaks" * (name in self.interrupted)
            + " at first on the other side" * (name in self.crossed)
            for name in names
        ]

    @property
    def rewired(self) -> str:
        """Whether the wires are the old ones, at the run's size and at half of it."""
        sizes = ((self.wiring, self.wiring_null), (self.wiring_half, self.wiring_half_null))
        known = [one for one in sizes if not np.isnan(one[0].value)]
        if self.began == "absent" and self.verdict != "absent":
            word = "turned round" if self.behaviour[0].high < 0 else "not surely there"
            return f"At step {self.steps[0]} it was {word}, so no wires are known of then."
        if not known or self.verdict == "absent":
            return "Whether the old wires suffice is not known."
        words = [wired(kept, null) for kept, null in known]
        word = next(word for word in (LACK, PARTLY, UNTOLD, SUFFICE) if word in words)
        size = known[words.index(word)]
        kept, null = size
        at_half = " of half the run's size" if size is not sizes[0] else ""
        if word == SUFFICE and self.random < SMALL:  # then any wires do
            word = f"random ones of {self.random:.1f} times the edges do too, so {UNTOLD}"
        return (
            f"Circuits{at_half} by step {self.steps[0]}'s scores carry {kept} of what today's "
            f"own carry, those by half of the pairs {null}: {word}."
        )

    @property
    def supported(self) -> str:
        """What supports it."""
        turned = (*self.cohorts, *self.lapsed, *self.transient, *self.interrupted)
        changed = list(dict.fromkeys(turned))
        text = "Changes are beyond resampling of these pairs" if changed else "No state changed"
        if changed:
            last = [name for name in changed if name in self.lasting]
            text += (
                f", those of {listed(last)} beyond the run's own fluctuation too"
                if last
                else "; none is beyond the run's own fluctuation"
                + (" (that takes 6 checkpoints)" if self.checkpoints < 6 else "")
            )
        text += "; no control was given" if self.control is None else self.control.as_level
        text += f"; {self.sound} of {self.checkpoints} records are sound"
        if self.weaknesses and self.verdict != "absent":
            text += f", the last is not: {'; '.join(self.weaknesses)}"
        if self.regime.word in ("accumulates", "searches"):
            text += f"; the run {self.regime.word}"
        return text + "."

    @property
    def as_level(self) -> str:
        """What a run in which nothing was taught has of the same."""
        if np.isnan(self.furthest):
            return "; the control run does not show the behaviour, so it gives drift no level"
        emerged, faded = (*self.cohorts, *self.transient), self.lapsed
        parts = [
            f"{counted(names)} {word} ({listed(names)})" if names else f"no node {word}"
            for names, word in ((emerged, "emerged"), (faded, "faded"))
        ]
        text = (
            f"; drift is set against a control run of {self.steps[1] - self.steps[0]} steps, in "
            f"which shares moved by {self.furthest:.2f} at most, {' and '.join(parts)}"
        )
        if not np.isnan(self.growth.value):
            text += f", the behaviour moved by {self.growth} logits"
        if not np.isnan(self.wiring.value):
            text += f" and circuits by step {self.steps[0]}'s scores carry {self.wiring}"
        return text


def _figure(row: pd.Series, name: str) -> Figure:
    return Figure(float(row[name]), float(row[f"{name}_low"]), float(row[f"{name}_high"]))


def wired(kept: Figure, null: Figure) -> str:
    """Less than the null, and by more than a tenth, is a loss; within a tenth of it none."""
    if kept.high < null.low and kept.value < null.value - WIRED:
        return PARTLY if kept.low > MOST else LACK
    if kept.low >= max(null.value, 1 - WIRED) - WIRED:  # a low null excuses no loss
        return SUFFICE
    return UNTOLD


def _growth(first: Analysis, last: Analysis) -> Figure:
    """Of the behaviour, by the same pairs at both."""
    before, after = (one.behaviour.clean - one.behaviour.corrupted for one in (first, last))
    if len(before) != len(after):
        return Figure(np.nan, np.nan, np.nan)
    ends = interval((after - before)[:, None], resamples(len(last.stability.entries), len(after)))
    return Figure(float(ends.mean), float(ends.low), float(ends.high))


def counted(names: Sequence[str]) -> str:
    """`2 heads and 1 MLP`."""
    mlps = sum(name.startswith("M") for name in names)
    each = ((len(names) - mlps, "head"), (mlps, "MLP"))
    return " and ".join(f"{n} {word}{'s' * (n > 1)}" for n, word in each if n)


def _were(names: Sequence[str], word: str) -> str:
    was = "was" if len(names) == 1 else "were"
    return f"{was} recruited" if word == "recruited" else word


def listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return shown + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _short(value: float, decimals: int) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.{decimals}f}"
