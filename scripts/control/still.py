"""Controls in which no node changes: a gain, weight noise, other pairs of the same contrast."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from scripts.control.control import Outcome, World
from scripts.control.models import Subject, add_noise, scaled, spreads
from scripts.control.story import PAIRS, emergent, records, shares, turned
from tracking.timeline.activity import Thresholds
from tracking.timeline.timeline import Timeline
from train.tiny.base import base_model

GAINS = (0.1, 0.25, 0.5, 1, 2, 4, 8)
CHECKPOINTS = 4  # of noise on top of noise
FRESH = 512  # pairs that say what a share truly is
WIRING = 1e-3
FALSE = Thresholds().share / 2  # an emergent head whose true share is smaller


def gain(world: World) -> Outcome:
    """The last norm's weight scaled up, everything else as it was."""
    problems, without, count = [], [], 0
    gains = GAINS[::3] if world.quick else GAINS
    for name, subject in _trained_or_not(world):
        (pairs,), count = subject.samples(PAIRS), count + 1
        timeline = Timeline.of(records(_gained(subject.model, gains), pairs))
        counts, place = timeline.counts, f"{name}, {subject.contrast}"
        if not (counts["behaviour_low"] > 0).any():
            without.append(place)
        elif (counts["behaviour"].diff().dropna() <= 0).any():
            problems.append(f"{place}: the behaviour does not grow")
        kept = counts["wiring_kept"].dropna()
        if ((kept - 1).abs() > WIRING).any():
            problems.append(f"{place}: wiring kept {kept.min():.3f}")
        if changed := turned(timeline):
            problems.append(f"{place}: {', '.join(changed)} changed state")
    absent = f"; the behaviour is absent in {'; '.join(without)}" if without else ""
    came = "; ".join(problems) or "no node changed state, wiring kept 1, the behaviour grew"
    return Outcome(f"{count} runs of {len(gains)} checkpoints: {came}{absent}", not problems)


def _trained_or_not(world: World) -> list[tuple[str, Subject]]:
    if world.quick:
        return [("base", Subject(base_model()))]
    return [
        (name, Subject(folder, contrast))
        for name, folder in (("base", base_model()), ("trained", world.trained))
        for contrast in ("cue", "operand")
    ]


def _gained(model: Any, gains: Sequence[float]) -> Iterator[Any]:
    for one in gains:
        with scaled(model.model.norm.weight.data, one):
            yield model


def noise(share: float) -> Callable[[World], Outcome]:
    """Gaussian noise of a `share` of each matrix's own spread, added anew at each checkpoint."""

    def make(world: World) -> Outcome:
        draws, any_emergent, false, sizes = world.draws(20), 0, 0, []
        for draw in range(draws):
            subject = _subject(world, draw)
            pairs, fresh = subject.samples(PAIRS, FRESH, seed=draw)
            emerged = emergent(Timeline.of(records(_noised(subject, share, draw), pairs)))
            if emerged:
                truth = shares(_noised(subject, share, draw), fresh, emerged)
                largest = _largest(emerged, truth)
                any_emergent, false = any_emergent + 1, false + (min(largest) < FALSE)
                sizes += largest
        came = (
            f"a false emergent head in {false} of {draws} draws, any emergent head in "
            f"{any_emergent}"
        )
        true = ", ".join(f"{one:.2f}" for one in sorted(sizes))
        came += f" (true shares {true})" if sizes else ""
        return Outcome(came, false <= 0.05 * draws)

    return make


def _subject(world: World, draw: int) -> Subject:
    """The bases on both contrasts, and the trained model on cue pairs."""
    if draw % 4 == 3 and not world.quick:
        return Subject(world.trained, "cue")
    return Subject(base_model(draw % 3), ("operand", "cue")[draw % 2])


def _noised(subject: Subject, share: float, draw: int) -> Iterator[Any]:
    model = subject.model
    of_matrices = spreads(model)
    yield model
    for checkpoint in range(CHECKPOINTS):
        add_noise(model, share, of_matrices, seed=draw * CHECKPOINTS + checkpoint)
        yield model


def _largest(emerged: dict[str, list[int]], truth: dict[str, np.ndarray]) -> list[float]:
    """For every head said to be emergent its largest share, by brute force, at such a step."""
    return [float(np.abs(truth[node][steps]).max()) for node, steps in emerged.items()]


def other_pairs(world: World) -> Outcome:
    """The verdicts of two disjoint samples of pairs on the same checkpoints."""
    agreed = decided = 0
    for draw in range(world.draws(10)):
        subject = _subject(world, draw)
        tables = [
            Timeline.of(records(_noised(subject, 0.1, draw), pairs)).nodes
            for pairs in subject.samples(PAIRS, PAIRS, seed=draw)
        ]
        sure = ~tables[0]["undecided"] & ~tables[1]["undecided"]
        same = tables[0]["active"] == tables[1]["active"]
        agreed, decided = agreed + int((sure & same).sum()), decided + int(sure.sum())
    share = agreed / decided
    came = f"{share:.1%} of {decided} verdicts that both samples decide"
    return Outcome(came, share >= 0.95)
