"""Controls in which one node's write is turned on, or off, and everything else stays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from scripts.control.control import Outcome, World
from scripts.control.models import Subject, add_noise, scaled, spreads, write_of
from scripts.control.story import PAIRS, lasting, records, shares, turned
from tracking.nodes.effects import effects
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.timeline.activity import Thresholds
from tracking.timeline.timeline import Timeline
from train.tiny.base import base_model

DRAWS = 20
GRADUAL = tuple(step / 8 for step in range(9))
SUDDEN = (0, 0, 0, 0, 0, 1, 1, 1, 1, 1)
FRESH = 256  # pairs that say what a share truly is
SOME = 128  # pairs that say which nodes are worth planting, and when they come
CARRIES = 2 * Thresholds().share  # a node worth planting surely has this share
JITTER = 0.01  # weight noise of every checkpoint of its own, beside a sudden change


@dataclass(frozen=True)
class Plant:
    """A node that carries a behaviour which its model has without it too."""

    subject: Subject
    node: str

    def models(self, factors: Iterable[float], jitter: float = 0.0) -> Iterator[Any]:
        """The model with the node's write scaled by each factor."""
        model = self.subject.model
        of_matrices = spreads(model)
        for seed, factor in enumerate(factors):
            if jitter:
                model = self.subject.model
                add_noise(model, jitter, of_matrices, seed)
            with scaled(write_of(model, self.node), factor):
                yield model


@cache
def plants(subject: Subject) -> list[Plant]:
    """All nodes of a model that surely carry enough of the behaviour and are not needed for it."""
    (pairs,), model, out = subject.samples(SOME, seed=1), subject.model, []
    table = effects(model, pairs, batch_size=PAIRS).set_index("node")
    for way in ("corrupt", "restore"):
        size = np.maximum(table[f"{way}_share_low"], -table[f"{way}_share_high"])
        out += [str(node) for node in table.index[size >= CARRIES]]
    return [
        Plant(subject, node) for node in table.index if node in out and _spared(model, node, pairs)
    ]


def _spared(model: Any, node: str, pairs: PromptPairs) -> bool:
    """Whether the behaviour is there without the node, in all resamples."""
    with scaled(write_of(model, node), 0.0):
        left = effects(model, pairs, [node], batch_size=PAIRS).iloc[0]
    return bool(
        np.isfinite(left[["corrupt_share_low", "corrupt_share_high"]].to_numpy(float)).all()
    )


def drawn(world: World, count: int) -> list[Plant]:
    """Plants, models taken in turn, heads and MLPs in turn as far as there are."""
    subjects = [Subject(None)]
    if not world.quick:
        subjects += [
            *(Subject(base_model(seed)) for seed in (0, 1, 2)),
            Subject(world.trained, "cue"),
        ]
    generator, out = np.random.default_rng(0), []
    for place in range(count):
        there = plants(subjects[place % len(subjects)])
        kind = [one for one in there if one.node.startswith("LM"[place // len(subjects) % 2])]
        kind = kind or there
        out.append(kind[generator.integers(len(kind))])
    return out


def gradual(backwards: bool) -> Callable[[World], Outcome]:
    """A node's write turned from 0 to full over 8 checkpoints, or back."""
    factors = GRADUAL[::-1] if backwards else GRADUAL

    def make(world: World) -> Outcome:
        chosen, count = drawn(world, world.draws(DRAWS)), PAIRS if world.quick else SOME
        problems = [
            f"draw {place}, {plant.node}: {problem}"
            for place, plant in enumerate(chosen)
            if (problem := _gradual_problem(plant, factors, backwards, place, count))
        ]
        came = f"right in {len(chosen) - len(problems)} of {len(chosen)} draws"
        return Outcome("; ".join([came, *problems]), not problems)

    return make


def _gradual_problem(
    plant: Plant, factors: Sequence[float], backwards: bool, draw: int, count: int
) -> str:
    """What is not as it should be by `count` pairs; empty where all is."""
    pairs, fresh = plant.subject.samples(count, FRESH, seed=draw)
    timeline = Timeline.of(records(plant.models(factors), pairs))
    changed, node, least = turned(timeline), plant.node, Thresholds().share
    exact = np.abs(shares(plant.models(factors), pairs, [node])[node]).max(axis=1)  # [step]
    right = int(((exact < least) if backwards else (exact >= least)).argmax())
    if node not in changed:
        return f"never changed state (shares {exact.round(2)})"
    last = timeline.at(len(factors) - 1, "pairs").set_index("node").loc[node]
    if str(last["state"]) not in (("faded",) if backwards else ("new", "surviving")):
        return f"is {last['state']} at the end"
    if not backwards and str(last["origin"]) != "recruited":
        return f"its origin is {last['origin']!r}"
    if abs(changed[node] - right) > 1:
        return f"changed at {changed[node]}, by brute force at {right} (shares {exact.round(2)})"
    truth = shares(plant.models(factors), fresh, set(changed) - {node})
    moved = {name: np.abs(paths - paths[0]).max() for name, paths in truth.items()}
    wrong = [f"{name} ({size:.2f})" for name, size in moved.items() if size < least]
    return f"others changed state: {', '.join(wrong)}" if wrong else ""


def sudden(world: World) -> Outcome:
    """A node's write turned on between two checkpoints, all others but for weight noise equal."""
    chosen, at = drawn(world, world.draws(10)), SUDDEN.index(1)
    problems, there, stayed = [], 0, 0
    for place, plant in enumerate(chosen):
        (pairs,) = plant.subject.samples(PAIRS, seed=place)
        timeline = Timeline.of(records(plant.models(SUDDEN, JITTER), pairs))
        changed = turned(timeline).get(plant.node)
        there += changed == at
        stayed += plant.node in lasting(timeline)
        if changed != at:
            problems.append(f"{plant.node}: changed at {changed}")
        elif plant.node not in lasting(timeline):
            problems.append(f"{plant.node}: not lasting")
    came = f"found at its checkpoint in {there} of {len(chosen)}, called lasting in {stayed}"
    return Outcome("; ".join([came, *problems]), not problems)
