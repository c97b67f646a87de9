"""Runs whose records are random, without a training."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from tests.builders.analyses import make_analysis
from tracking import Ledger, Record
from tracking.model.graph import Graph

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
    """A run of random heads; the same seed for the same step and contrast. `facts` are of records,
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
    """A run in which heads come and go, some for sure and some not."""
    heads = len(SMALL.head_names)
    for step in steps:
        generator = torch.Generator().manual_seed(1000 + step)
        strength = torch.rand(heads, generator=generator)
        chosen = torch.rand(20, heads, generator=generator) < 1.6 * strength
        noise = 0.02 * torch.randn(16, heads, generator=generator)
        halves = {
            "half_membership": torch.rand(20, 2, heads, generator=generator).round(),
            "half_effect": (0.2 * strength).expand(20, 2, -1),
        }
        effect = 0.2 * strength + noise
        write_run(folder, (step,), in_circuit=chosen, effect=effect, **{**halves, **more})
    return folder


def drawn(graph: Graph, seed: int, **overrides: Any) -> Any:
    generator = torch.Generator().manual_seed(seed)
    shape, heads = graph.edge_mask.shape, len(graph.head_names)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator)

    edges = 0.01 * normal(*shape) ** 3 * graph.edge_mask
    share = torch.rand(heads, generator=generator)
    fields = {
        "edge_scores": edges,
        "strength": edges.abs(),
        "circuit": (edges.abs() > 0.02) & graph.edge_mask,
        "edge_membership": torch.rand(*shape, generator=generator),
        "in_circuit": torch.rand(20, heads, generator=generator) < share**0.1,
        "ensemble": torch.rand(3, heads, generator=generator),
        "effect": 0.1 * normal(16, heads) + 0.2 * share,
        "roles": torch.rand(8, heads, generator=generator),
        "weight_change": torch.rand(5, heads, generator=generator),
    }
    return make_analysis(graph, **{**fields, **overrides})
