"""Controls of a comparison: two models of which it is known where they differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scripts.control.control import Outcome, World
from scripts.control.models import Subject, scaled
from scripts.control.planted import FRESH, drawn
from scripts.control.still import GAINS
from scripts.control.story import PAIRS, records, shares
from tracking.comparison.shares import Compared
from tracking.ledger.record import Record
from tracking.timeline.activity import Thresholds
from train.tiny.base import base_model

DRAWS = 20
CONTRASTS = ("cue", "operand")


@dataclass(frozen=True)
class Differences:
    """What a comparison of two models says of their nodes."""

    differing: list[str]
    only: dict[str, str]  # of nodes active in one only, the model
    absent: list[str]

    @classmethod
    def of(cls, one: Record, other: Record, paired: bool = True) -> Differences:
        """Of the models `a` and `b`."""
        analyses = {"a": one.analyses["pairs"], "b": other.analyses["pairs"]}
        both, nodes = Compared.of(analyses, Thresholds(), paired), one.graph.nodes
        differing = [
            node
            for couple in both.between.values()
            for node, differs in zip(nodes, couple.nodes, strict=True)
            if differs
        ]
        named = zip(nodes, both.words, both.where, strict=True)
        return cls(differing, {n: where[0] for n, word, where in named if word == "only"},
                   both.absent)  # fmt: skip


def halves(world: World) -> Outcome:
    """One model on two disjoint samples of pairs, as if they were two models."""
    subjects, false, problems = _bases(world), 0, []
    draws = [(subject, seed) for subject in subjects for seed in range(world.draws(DRAWS))]
    for subject, seed in draws:
        one, other = (
            record
            for some in subject.samples(PAIRS, PAIRS, seed=seed)
            for record in records([subject.model], some)
        )
        of_both = Differences.of(one, other, paired=False)
        false += bool(of_both.differing)
        problems += [f"{_named(subject)}, draw {seed}: {node}" for node in of_both.differing]
    came = f"{false} of {len(draws)} draws with a node that differs"
    return Outcome("; ".join([came, *problems]), false <= max(1, len(draws) // 20))


def gained(world: World) -> Outcome:
    """A model against itself with the last norm's weight scaled."""
    problems, tried = [], 0
    for subject in _bases(world):
        model, (pairs,) = subject.model, subject.samples(PAIRS)
        (plain,) = records([model], pairs)
        for gain in GAINS[::3] if world.quick else GAINS:
            with scaled(model.model.norm.weight.data, gain):
                (louder,) = records([model], pairs)
            tried += 1
            of_both = Differences.of(plain, louder)
            problems += [f"{_named(subject)} x {gain}: {node}" for node in of_both.differing]
    return Outcome(f"{tried} gains: {'; '.join(problems) or 'no node differs'}", not problems)


def recruited(world: World) -> Outcome:
    """A model without one node's write against itself: that node is the second's only."""
    chosen, problems = drawn(world, world.draws(DRAWS)), []
    for draw, plant in enumerate(chosen):
        pairs, fresh = plant.subject.samples(PAIRS, FRESH, seed=draw)
        off, on = (record for model in plant.models((0, 1)) for record in records([model], pairs))
        of_both = Differences.of(off, on)
        if of_both.only.get(plant.node) != "b":
            absent = " (no behaviour without it)" if of_both.absent else ""
            problems.append(f"draw {draw}: {plant.node} is not said to be of one only{absent}")
        exact = shares(plant.models((0, 1)), fresh, {*of_both.only} - {plant.node})
        problems += [
            f"draw {draw}: {node} is said to be of one only, and differs by {size:.2f}"
            for node, path in exact.items()
            if (size := float(np.abs(path[1] - path[0]).max())) < Thresholds().share
        ]
    came = f"{len(chosen)} draws, {len(problems)} problems"
    return Outcome("; ".join([came, *problems]), not problems)


def _bases(world: World) -> list[Subject]:
    if world.quick:
        return [Subject(base_model())]
    return [Subject(base_model(seed), contrast) for seed in (0, 1, 2) for contrast in CONTRASTS]


def _named(subject: Subject) -> str:
    return f"{subject.folder.name if subject.folder else 'by hand'}, {subject.contrast}"
