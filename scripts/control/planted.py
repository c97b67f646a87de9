"""Controls in which one node's write is turned on, or off, and everything else stays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from scripts.control.control import Outcome, World
from scripts.control.models import add_noise, loaded, samples, scaled, spreads, write_of
from scripts.control.story import PAIRS, lasting, records, shares, turned
from tracking.nodes.effects import effects
from tracking.timeline.activity import Thresholds
from tracking.timeline.timeline import Timeline
from train.tiny.base import base_model

DRAWS = 20
GRADUAL = tuple(step / 8 for step in range(9))
SUDDEN = (0, 0, 0, 0, 0, 1, 1, 1, 1, 1)
FRESH = 256  # pairs that say what a share truly is
CARRIES = 2 * Thresholds().share  # a node worth planting surely has this share
JITTER = 0.01  # weight noise of every checkpoint of its own, beside a sudden change


@dataclass(frozen=True)
class Plant:
    """A node of a model that carries a behaviour which the model has without it too."""

    folder: Path
    contrast: str
    node: str

    def models(self, factors: Iterable[float], jitter: float = 0.0) -> Iterator[nn.Module]:
        """The model with the node's write scaled by each factor."""
        model, of_matrices = loaded(self.folder), {}
        for seed, factor in enumerate(factors):
            model = loaded(self.folder) if jitter else model
            if jitter:
                add_noise(model, jitter, of_matrices or spreads(model), seed)
            with scaled(write_of(model, self.node), factor):
                yield model


@cache
def plants(folder: Path, contrast: str) -> list[Plant]:
    """All nodes of a model that surely carry enough of a behaviour and are not needed for it."""
    (pairs,), model = samples(contrast, FRESH, seed=1), loaded(folder)
    table = effects(model, pairs).set_index("node")
    out = []
    for node, row in table.iterrows():
        ends = [row[f"{way}_share_low"] for way in ("corrupt", "restore")]
        ends += [-row[f"{way}_share_high"] for way in ("corrupt", "restore")]
        with scaled(write_of(model, str(node)), 0.0):
            left = effects(model, pairs, [str(node)])
        there = left["corrupt_share"].notna().all() and np.isfinite(left["corrupt_share_low"]).all()
        if max(ends) >= CARRIES and there:
            out.append(Plant(folder, contrast, str(node)))
    return out


def drawn(world: World, count: int) -> list[Plant]:
    """Plants, models taken in turn, heads and MLPs in turn as far as there are."""
    folders = [(base_model(seed), "operand") for seed in ((0,) if world.quick else (0, 1, 2))]
    folders += [] if world.quick else [(world.trained, "cue")]
    generator = np.random.default_rng(0)
    out: list[Plant] = []
    while len(out) < count:
        for folder, contrast in folders:
            there = plants(folder, contrast)
            kind = [one for one in there if one.node.startswith("LM"[len(out) % 2])] or there
            out.append(kind[generator.integers(len(kind))])
    return out[:count]


def gradual(backwards: bool) -> Callable[[World], Outcome]:
    """A node's write turned from 0 to full over 8 checkpoints, or back."""
    factors = GRADUAL[::-1] if backwards else GRADUAL

    def make(world: World) -> Outcome:
        chosen = drawn(world, world.draws(DRAWS))
        problems = [
            f"draw {place}, {plant.node}: {problem}"
            for place, plant in enumerate(chosen)
            if (problem := _gradual_problem(plant, factors, backwards, place))
        ]
        came = f"right in {len(chosen) - len(problems)} of {len(chosen)} draws"
        return Outcome("; ".join([came, *problems]), not problems)

    return make


def _gradual_problem(plant: Plant, factors, backwards: bool, draw: int) -> str:
    """What is not as it should be; empty where all is."""
    pairs, fresh = samples(plant.contrast, PAIRS, FRESH, seed=draw)
    timeline = Timeline.of(records(plant.models(factors), pairs))
    changed, node, least = turned(timeline), plant.node, Thresholds().share
    exact = np.abs(shares(plant.models(factors), pairs, [node])[node]).max(axis=1)  # [step]
    right = int(((exact < least) if backwards else (exact >= least)).argmax())
    if node not in changed:
        return f"never changed state (shares {exact.round(2)})"
    last = timeline.at(len(factors) - 1, "pairs").set_index("node").loc[node]
    if last["state"] not in (("faded",) if backwards else ("new", "surviving")):
        return f"is {last['state']} at the end"
    if not backwards and last["origin"] != "recruited":
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
    problems = []
    for place, plant in enumerate(chosen):
        (pairs,) = samples(plant.contrast, PAIRS, seed=place)
        timeline = Timeline.of(records(plant.models(SUDDEN, JITTER), pairs))
        if turned(timeline).get(plant.node) != at:
            problems.append(f"{plant.node}: changed at {turned(timeline).get(plant.node)}")
        elif plant.node not in lasting(timeline):
            problems.append(f"{plant.node}: not lasting")
    came = f"found at its checkpoint, and lasting, in {len(chosen) - len(problems)} of {len(chosen)}"
    return Outcome("; ".join([came, *problems]), not problems)
