"""Analyses by hand."""

from dataclasses import fields
from functools import partial
from typing import Any, get_type_hints

import torch

from tracking.ledger.record import Analysis
from tracking.model.graph import Graph
from tracking.nodes.role_words import SCORES
from tracking.nodes.weight_change import CHANGES


def make_analysis(graph: Graph, **overrides: Any) -> Analysis:
    """A sound one in which no head does anything; `overrides` are fields that differ."""
    heads, zeros = len(graph.head_names), partial(torch.zeros, graph.edge_mask.shape)
    plain: dict[str, Any] = {
        "edge_scores": zeros(),
        "strength": zeros(),
        "circuit": zeros().bool(),
        "in_circuit": torch.zeros(10, heads, dtype=torch.bool),
        "edge_membership": zeros(),
        "ensemble": torch.zeros(3, heads),
        "effect": torch.zeros(16, heads),
        "half_membership": torch.zeros(20, 2, heads),
        "half_effect": torch.zeros(20, 2, heads),
        "half_error": torch.zeros(20, 2, heads),
        "curve": torch.tensor([[0.1, 0.8, 0.7, 0.9], [1, 1, 1, 1]]),
        "roles": torch.zeros(len(SCORES), heads),
        "weight_change": torch.zeros(len(CHANGES), heads),
        "gap": 0.01,
        "clean": 0.9,
        "corrupted": 0.1,
        "difference_low": 0.4,
        "faithfulness": 0.9,
        "faithfulness_low": 0.85,
        "faithfulness_high": 0.95,
        "complement": 0.1,
        "accuracy": 0.75,
        "clean_accuracy": 1.0,
        "cpr": 0.8,
        "cmd": 0.2,
        "jaccard": 0.8,
        "jaccard_low": 0.7,
        "jaccard_high": 0.9,
        "rank_correlation": 0.95,
        "pairs_needed": 64.0,
    }
    values = {**plain, **overrides}
    few = len(values["effect"])  # as often as it takes to be no weak record by their number
    values["effect"] = values["effect"].repeat_interleave(-(-16 // few), dim=0)
    parts = {
        part: result(**{item.name: values[item.name] for item in fields(result)})
        for part, result in get_type_hints(Analysis).items()
    }
    return Analysis(**parts)


def flat(analysis: Analysis) -> dict[str, Any]:
    """Every tensor and number of an analysis by its name."""
    parts = [getattr(analysis, part.name) for part in fields(analysis)]
    return {item.name: getattr(part, item.name) for part in parts for item in fields(part)}
