"""Random sets of heads to compare a set with: as many, and alike in layer or in write norm.

What switching off some heads does says little by itself; switching off as many others, of the same
layers or as loud in the residual stream, may do the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from random import Random
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from tracking.errors import BadInput
from tracking.interventions.factors import slots
from tracking.interventions.prompts import mask_of, passes
from tracking.model.decoder import Decoder
from tracking.model.graph import Graph

TRIES = 100
"""Draws for every set that is asked for, until no new one is expected."""


@dataclass(frozen=True)
class MatchedSets:
    """Sets of heads that stand beside a set, each as large as it."""

    sets: tuple[tuple[str, ...], ...]  # all different: fewer than asked for where there are no more
    asked: int
    moved: int | None = None  # heads of each set from another layer; None where matched by norm
    norm_ratio: float | None = None  # their write norm over that of the set; None by layer


def matched_by_layer(
    graph: Graph, heads: Collection[str], pool: Collection[str], count: int, seed: int = 0
) -> MatchedSets:
    """`count` random sets with as many heads of each layer as `heads`, drawn from `pool` (those
    that are inactive, say) without `heads`, by `seed`.

    Where a layer has too few in the pool, the rest come from the nearest layers that have some;
    `moved` of the result says how many of each set do. Sets are all different; where the pool has
    not so many, `sets` is shorter than `asked`. Raises `BadInput` for a name that is no head, no
    head at all, a `count` below 1, or a pool with fewer heads than asked for.
    """
    wanted, rest = _checked(graph.head_names, heads, pool, count)
    needed = Counter(layer for layer, _ in slots(graph, wanted))
    by_layer: dict[int, list[str]] = {layer: [] for layer in range(graph.n_layers)}
    for head, (layer, _) in zip(rest, slots(graph, rest), strict=True):
        by_layer[layer].append(head)
    short = {layer: max(n - len(by_layer[layer]), 0) for layer, n in needed.items()}

    def draw(random: Random) -> list[str]:
        left = {layer: random.sample(here, len(here)) for layer, here in by_layer.items()}
        chosen = [
            left[layer].pop()
            for layer, number in needed.items()
            for _ in range(number - short[layer])
        ]
        moved = [layer for layer, number in short.items() for _ in range(number)]
        for layer in random.sample(moved, len(moved)):
            near = min((abs(at - layer), random.random(), at) for at, here in left.items() if here)
            chosen.append(left[near[-1]].pop())
        return chosen

    return MatchedSets(
        _distinct(draw, graph.head_names, count, seed), count, moved=sum(short.values())
    )


def matched_by_norm(
    norms: pd.Series,
    heads: Collection[str],
    pool: Collection[str],
    count: int,
    seed: int = 0,
    nearest: int = 5,
) -> MatchedSets:
    """`count` random sets in which every head of `heads` has a partner of like write norm: a random
    one of the `nearest` heads of `pool` by `norms` (`write_norms`) that have no part in the set.

    `norm_ratio` of the result says how well they match: in a pool of quiet heads the nearest can be
    far. Otherwise as `matched_by_layer`.
    """
    wanted, rest = _checked(tuple(norms.index), heads, pool, count)
    if nearest < 1:
        raise BadInput(f"nearest is {nearest}; it must be at least 1 head")
    size = {head: float(norms[head]) for head in (*wanted, *rest)}

    def draw(random: Random) -> list[str]:
        left = list(rest)
        for head in random.sample(wanted, len(wanted)):  # who comes first has the best choice
            near = sorted(left, key=lambda other: abs(size[other] - size[head]))[:nearest]
            left.remove(random.choice(near))
        return [head for head in rest if head not in left]

    sets = _distinct(draw, tuple(norms.index), count, seed)
    theirs = sum(size[head] for each in sets for head in each) / len(sets)
    return MatchedSets(sets, count, norm_ratio=theirs / sum(size[head] for head in wanted))


def write_norms(model: Any, input_ids: Tensor, attention_mask: Tensor | None = None) -> pd.Series:
    """Float64 by head name: the mean Euclidean norm of what each head adds to the residual stream
    (z through its columns of the output projection), over the real tokens of `input_ids`
    [row, position]; prompts and errors are those of `Reference.mean`."""
    decoder = Decoder.of(model)
    mask = mask_of(decoder, input_ids, attention_mask)
    sums = torch.zeros(len(decoder.blocks), decoder.n_heads)
    for rows, layers in passes(decoder, input_ids, mask):
        real = mask[rows].bool()
        for layer, seen in enumerate(layers):
            writes = decoder.writes(layer, seen.z.float())  # [row, position, head, width]
            sums[layer] += writes.norm(dim=-1).cpu()[real].sum(0)
    means = (sums / mask.sum()).flatten().double()
    return pd.Series(means.numpy(), index=list(decoder.graph.head_names), name="write_norm")


def _checked(
    names: tuple[str, ...], heads: Collection[str], pool: Collection[str], count: int
) -> tuple[list[str], list[str]]:
    """The heads, and those of the pool beside them, in the order of `names`, all heads;
    `BadInput` where there are too few, or one is none."""
    for head in (*heads, *pool):
        if head not in names:
            raise BadInput(f"no head {head!r}; heads are {names[0]} to {names[-1]}")
    wanted = [head for head in names if head in set(heads)]
    rest = [head for head in names if head in set(pool) - set(heads)]
    if not wanted or count < 1:
        raise BadInput(f"{len(wanted)} heads and {count} sets; both must be at least 1")
    if len(rest) < len(wanted):
        raise BadInput(
            f"{len(rest)} heads in the pool beside those asked for, fewer than {len(wanted)}: "
            "there are no matched controls; ask for fewer heads, or for no sets"
        )
    return wanted, rest


def _distinct(
    draw: Callable[[Random], list[str]], names: tuple[str, ...], count: int, seed: int
) -> tuple[tuple[str, ...], ...]:
    """Up to `count` different sets, each in the order of `names`."""
    random = Random(seed)
    sets: dict[tuple[str, ...], None] = {}
    for _ in range(TRIES * count):
        if len(sets) == count:
            break
        sets[tuple(sorted(draw(random), key=names.index))] = None
    return tuple(sets)
