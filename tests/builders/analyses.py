"""Analyses by hand."""

from dataclasses import fields
from functools import partial
from typing import Any, get_type_hints

import torch
from torch import Tensor

from tracking.ledger.record import Analysis, WiringResult
from tracking.model.graph import Graph
from tracking.nodes.role_words import SCORES
from tracking.nodes.weight_change import CHANGES

PAIRS = 16


def make_analysis(
    graph: Graph, shares: Tensor | None = None, noise: float = 0.0, **overrides: Any
) -> Analysis:
    """A sound one in which no node does anything, with a behaviour of 4 logits.

    `shares` [node]: of the behaviour, lost and restored alike, on all pairs but for `noise` (their
    standard deviation over pairs). `overrides` are fields that differ; `wiring=None` has none.
    """
    nodes, zeros = len(graph.nodes), partial(torch.zeros, graph.edge_mask.shape)
    beyond = int(graph.edge_mask.sum()) + 1
    drawn = torch.randn(PAIRS, nodes, generator=torch.Generator().manual_seed(0))
    of_nodes = torch.zeros(nodes) if shares is None else shares
    effects = 4 * (of_nodes + noise * (drawn - drawn.mean(0)))
    plain: dict[str, Any] = {
        "clean": torch.full((PAIRS,), 2.0),
        "corrupted": torch.full((PAIRS,), -2.0),
        "clean_probability": torch.full((PAIRS,), 0.9),
        "corrupted_probability": torch.full((PAIRS,), 0.1),
        "edge_scores": zeros(),
        "strength": zeros(),
        "gap": 0.01,
        "circuit": zeros().bool(),
        "curve": torch.tensor([[0.1, 0.8, 0.7, 0.9], [1, 1, 1, 1]]),
        "faithfulness": 0.9,
        "faithfulness_low": 0.85,
        "faithfulness_high": 0.95,
        "complement": 0.1,
        "accuracy": 0.75,
        "clean_accuracy": 1.0,
        "cpr": 0.8,
        "cmd": 0.2,
        "size": 10,
        "all_edges": 1.0,
        "no_edges": 0.0,
        "random_size": 100.0,
        "entries": torch.full((50, nodes), beyond, dtype=torch.int32),
        "edge_entry": torch.full(graph.edge_mask.shape, beyond, dtype=torch.int32),
        "edge_membership": zeros(),
        "jaccard": 0.8,
        "jaccard_low": 0.7,
        "jaccard_high": 0.9,
        "rank_correlation": 0.95,
        "pairs_needed": 64.0,
        "edge_draws": torch.zeros(7, 0, dtype=torch.uint8),  # 50 resamples without any edge
        "corrupt": effects,
        "restore": effects,
        "attributed": effects,
        "sampled": torch.zeros(nodes, dtype=torch.bool),
        "together": torch.zeros(nodes, dtype=torch.bool),
        "together_corrupt": torch.full((PAIRS,), 3.5),
        "together_restore": torch.full((PAIRS,), 3.0),
        "roles": torch.zeros(len(SCORES), len(graph.head_names)),
        "weight_change": torch.zeros(len(CHANGES), len(graph.head_names)),
        "wiring": WiringResult(
            sizes=torch.tensor([0.1, 1.0]),
            own=torch.tensor([0.8, 1.0]),
            old=torch.tensor([0.8, 1.0]),
            half=torch.tensor([0.8, 1.0]),
            wiring_kept=1.0,
            wiring_kept_low=0.98,
            wiring_kept_high=1.02,
            wiring_null=0.99,
            wiring_null_low=0.97,
            wiring_null_high=1.01,
            wiring_kept_half=1.0,
            wiring_kept_half_low=0.98,
            wiring_kept_half_high=1.02,
            wiring_null_half=0.99,
            wiring_null_half_low=0.97,
            wiring_null_half_high=1.01,
            wiring_kept_double=1.0,
            wiring_null_double=1.0,
            missing=torch.zeros(0, 2, dtype=torch.long),
            restored=torch.zeros(0),
        ),
    }
    unknown = set(overrides) - set(plain)
    assert not unknown, f"an analysis has no {unknown}"
    values = {**plain, **overrides}
    parts = {
        part: result(**{item.name: values[item.name] for item in fields(result)})
        for part, result in get_type_hints(Analysis).items()
        if part != "wiring"
    }
    return Analysis(**parts, wiring=values["wiring"])


def flat(analysis: Analysis) -> dict[str, Any]:
    """Every tensor and number of an analysis by its name."""
    parts = [getattr(analysis, part.name) for part in fields(analysis)]
    return {
        item.name: getattr(part, item.name)
        for part in parts
        if part is not None
        for item in fields(part)
    }
