"""Controls on numbers alone: shares that fluctuate, heads beside a reward that saturates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import stats

from scripts.control.control import Outcome, World
from scripts.control.story import PAIRS
from tracking.model.graph import Graph
from tracking.timeline.activity import Thresholds
from tracking.timeline.coupling import Coupling
from tracking.timeline.shares import Shares
from tracking.timeline.states import History

DRAWS = 200
LARGE, CHECKPOINTS = Graph(28, 12), 30  # 336 heads
RESAMPLES = 8  # no lasting word rests on them
REWARDED = 80  # checkpoints with a reward
LEVEL = 0.05


def fluctuating(kind: str, size: float) -> Callable[[World], Outcome]:
    """Shares that fluctuate without trend by `size` of themselves: `jitter` about a level at each
    checkpoint, or a `walk` from each to the next, in steps of one size or that grow with it."""

    def make(world: World) -> Outcome:
        draws, called = world.draws(DRAWS), 0
        for seed in range(draws):
            paths = _paths(np.random.default_rng(seed), kind, size)
            history = History.of([_shares(row, seed) for row in paths], Thresholds())
            called += bool((history.lasting & ~history.unsettled).any())
        return Outcome(f"any lasting word in {called} of {draws} draws", called <= LEVEL * draws)

    return make


def _paths(generator: np.random.Generator, kind: str, size: float) -> np.ndarray:
    """float [step, node]."""
    nodes = len(LARGE.nodes)
    levels = np.minimum(0.6, generator.lognormal(np.log(0.005), 1.5, nodes))
    levels *= np.where(generator.random(nodes) < 0.1, -1, 1)
    steps = size * generator.standard_normal((CHECKPOINTS, nodes))
    if kind == "jitter":
        return levels * (1 + steps)
    steps[0] = 0
    walked = steps.cumsum(axis=0)
    return levels * (np.exp(walked) if kind == "growing walk" else 1 + walked)


def _shares(values: np.ndarray, seed: int) -> Shares:
    """A checkpoint whose nodes lose and restore the same."""
    both = np.stack([values, values])  # [direction, node]
    spread = 0.002 + 0.05 * np.abs(both)
    drawn = np.random.default_rng(seed).standard_normal((RESAMPLES, *both.shape))
    known = np.ones(len(values), dtype=bool)
    return Shares(
        value=both,
        draws=(both + spread * drawn).astype(np.float32),
        behaviour=np.ones(RESAMPLES, dtype=np.float32),
        measured=known,
        known=known,
        seen=PAIRS * known,
        there=True,
        pairs=PAIRS,
    )


def unrelated(world: World) -> Outcome:
    """Nodes that jitter, wander or grow in their own time beside a reward that saturates."""
    draws, by_node, by_series, tests = world.draws(DRAWS), 0, 0, 0
    for seed in range(draws):
        coupling = Coupling.of(*_tables(np.random.default_rng(seed)), "pairs")
        by_node += bool((coupling.per_node["q"] <= LEVEL).any())
        best = coupling.table.groupby("series")["p_corrected"].min()
        by_series, tests = by_series + int((best <= LEVEL).sum()), tests + len(best)
    held = all(
        stats.binomtest(count, of, LEVEL, alternative="greater").pvalue > LEVEL
        for count, of in ((by_node, draws), (by_series, tests))
    )
    came = (
        f"any node in {by_node} of {draws} draws, {by_series} of {tests} series, after correction"
    )
    return Outcome(came, held)


def _tables(generator: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Nodes and counts of a run, as in a timeline."""
    nodes, steps = 24, REWARDED + 1
    noise = generator.standard_normal((steps, nodes))
    time = np.linspace(0, 1, steps)[:, None]
    grown = 0.2 * time ** generator.uniform(0.5, 2, nodes) + 0.02 * noise
    kinds = np.stack([0.1 + 0.02 * noise, 0.1 + 0.02 * noise.cumsum(axis=0), grown])
    shares = np.take_along_axis(kinds, np.arange(nodes)[None, None] % 3, axis=0)[0]
    active = shares > 0.1
    rows = pd.DataFrame(
        {
            "contrast": "pairs",
            "step": np.repeat(np.arange(steps), nodes),
            "node": [f"L0H{node}" for node in range(nodes)] * steps,
            "kind": "head",
            "share": shares.ravel(),
            "active": active.ravel(),
            "cohort": np.tile(np.where(active[0], np.nan, 1.0), steps),
        }
    )
    reward = 1 - np.exp(-5 * time[:, 0]) + 0.03 * generator.standard_normal(steps)
    counts = pd.DataFrame(
        {
            "contrast": "pairs",
            "step": np.arange(steps),
            "stage": 0,
            "reward": np.where(np.arange(steps) > 0, reward, np.nan),
            "reward_name": "reward",
            "behaviour": 4 + generator.standard_normal(steps).cumsum(),
            "active": active.sum(axis=1),
            "emergent": (active & ~active[0]).sum(axis=1),
        }
    )
    return rows, counts
