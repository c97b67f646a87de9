"""Whether two models come from one base, so that a node's name means the same node in both.

Heads of one layer can be exchanged without changing what a model does, so that in another base
`L2H5` is another head. Training moves weights, yet not far: a model's attention weights stay nearly
parallel to its base's, while those of unrelated models are as good as orthogonal.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import torch

from tracking.nodes.weight_change import PROJECTIONS, Snapshot
from tracking.timeline.summary import listed

PARALLEL = 0.5  # cosine from which on weights are those of one base
APART = 0.25  # by which it is above that of layers that have nothing to do with each other


@dataclass(frozen=True)
class Relation:
    """Whether two models have one base, and by which rule that is said."""

    one_base: bool
    rule: str  # in words
    cosine: float = nan  # of all attention weights as one vector


def by_weights(one: Snapshot, other: Snapshot) -> Relation:
    """By the cosine of their attention weights: one base where it is at least `PARALLEL` and above
    the largest of any two mismatched layers by `APART`, and where every head is still in its place:
    none is nearer to another one of its layer, with a cosine of at least `PARALLEL`."""
    if [w.shape for w in _matrices(one)] != [w.shape for w in _matrices(other)]:
        return Relation(False, "other shapes")
    layers = len(one.q)
    cosine = _cosine(one, other, 0)
    unrelated = max((abs(_cosine(one, other, by)) for by in range(1, layers)), default=0.0)
    one_base = cosine >= PARALLEL and cosine >= unrelated + APART
    rule = (
        f"cosine of the attention weights {cosine:.3f}, of mismatched layers at most "
        f"{unrelated:.3f}"
    )
    moved = _moved_heads(one, other) if one_base else []
    if moved:
        return Relation(False, f"{rule}, yet heads of it stand in other places: {listed(moved)}")
    return Relation(one_base, rule, cosine)


def by_name(one: str | None, other: str | None) -> Relation:
    """By the bases that their runs name, where weights are gone."""
    if one is None or other is None:
        return Relation(False, "not known: weights are gone, and no run names their base")
    if one == other:
        return Relation(True, f"both runs began with {one}")
    return Relation(False, f"their runs began with {one} and with {other}")


def _cosine(one: Snapshot, other: Snapshot, by: int) -> float:
    """Of one model's layers and the other's, these shifted `by` so many, as one vector each."""
    products = torch.zeros(3, dtype=torch.float64)
    for name in PROJECTIONS:
        mine, others = getattr(one, name), getattr(other, name)
        for layer, weight in enumerate(mine):
            beside = others[(layer + by) % len(others)]
            products += torch.stack(
                [(weight * beside).sum(), weight.square().sum(), beside.square().sum()]
            ).double()
    inner, square, other_square = products.tolist()
    return inner / max((square * other_square) ** 0.5, 1e-30)


def _moved_heads(one: Snapshot, other: Snapshot) -> list[str]:
    """Heads of one model that are another head of the same layer in the other: `L0H1 is L0H4`."""
    moved = []
    for layer in range(len(one.q)):
        mine, others = (_by_head(model, layer) for model in (one, other))
        norms = mine.norm(dim=1)[:, None] * others.norm(dim=1)
        cosines = mine @ others.T / norms.clamp(min=1e-30)  # [head, head]
        nearest = cosines.max(1)
        elsewhere = (nearest.values >= PARALLEL) & (nearest.values > cosines.diagonal() + APART)
        moved += [
            f"L{layer}H{head} is L{layer}H{int(nearest.indices[head])}"
            for head in elsewhere.nonzero()[:, 0].tolist()
        ]
    return moved


def _by_head(model: Snapshot, layer: int) -> torch.Tensor:
    """[head, value]: each query head's slices of q and o; those of k and v are its group's."""
    rows = torch.cat([model.q[layer], model.o[layer].T], dim=1)
    return rows.reshape(model.n_heads, -1)


def _matrices(of: Snapshot) -> list[torch.Tensor]:
    return [weight for name in PROJECTIONS for weight in getattr(of, name)]
