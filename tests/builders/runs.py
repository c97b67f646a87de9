"""Runs whose records are random, without a training."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from tests.builders.analyses import PAIRS, make_analysis
from tracking import Ledger, Record
from tracking.model.graph import Graph
from tracking.stability.sets import packed, unsure

SMALL = Graph(2, 3)


LONG = tuple(range(0, 120, 10))


def write_run(
    folder: Path,
    steps: tuple[int, ...] = (0, 10, 20),
    graph: Graph = SMALL,
    contrasts: tuple[str, ...] = ("cue",),
    pairs: str = "0",
    facts: Mapping[str, Any] = MappingProxyType({}),
    **overrides: Any,
) -> Path:
    """A run of random nodes; the same seed for the same step and contrast. `facts` are of records,
    `overrides` of analyses."""
    for step in steps:
        analyses = {
            contrast: drawn(graph, step + place, **overrides)
            for place, contrast in enumerate(contrasts)
        }
        reward = {"reward": step / 100 + np.sin(step) or None}
        record = Record(step, graph.n_layers, graph.n_heads, pairs, analyses, **{**reward, **facts})
        Ledger(folder / "heads").write(record)
    return folder


def lively(folder: Path, steps: tuple[int, ...] = LONG, **more: Any) -> Path:
    """A run in which nodes come and go, all but one head after step 0, some at times undecided."""
    nodes = len(SMALL.nodes)
    for step in steps:
        generator = torch.Generator().manual_seed(1000 + step)
        share = 0.3 * (torch.rand(nodes, generator=generator) < 0.6)
        share[torch.rand(nodes, generator=generator) < 0.15] = 0.05
        if step == 0:
            share = 0.3 * (torch.arange(nodes) == 1)
        write_run(folder, (step,), **{"share": share, **more})
    return folder


def drawn(graph: Graph, seed: int, share: torch.Tensor | None = None, **overrides: Any) -> Any:
    """An analysis of random scores, memberships, roles and, where none are given, shares [node]."""
    generator = torch.Generator().manual_seed(seed)
    shape, heads, nodes = graph.edge_mask.shape, len(graph.head_names), len(graph.nodes)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator)

    edges = 0.01 * normal(*shape) ** 3 * graph.edge_mask
    strong = edges.abs() > 0.05
    inside = torch.rand(50, int(strong.sum()), generator=generator) < 0.3  # [sample, strong edge]
    among = inside.sum(0) / 50
    membership = torch.zeros(shape).masked_scatter(strong, among)
    if share is None:
        share = 0.4 * torch.rand(nodes, generator=generator) ** 2 - 0.05
    exact = 4 * (share + 0.02 * normal(PAIRS, nodes))
    fields = {
        "clean": 2 + 0.3 * normal(PAIRS),
        "edge_scores": edges,
        "strength": edges.abs(),
        "circuit": (edges.abs() > 0.02) & graph.edge_mask,
        "edge_membership": membership,
        "edge_draws": packed(inside)[:, unsure(among)],
        "entries": torch.randint(1, 20, (50, nodes), generator=generator).int(),
        "edge_entry": torch.randint(1, 20, shape, generator=generator).int(),
        "corrupt": exact,
        "restore": 0.9 * exact,
        "attributed": exact,
        "roles": torch.rand(8, heads, generator=generator),
        "weight_change": torch.rand(5, heads, generator=generator),
    }
    return make_analysis(graph, **{**fields, **overrides})
