"""Records of format 3, laid out as those of today; what they lack is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_type_hints

from torch import Tensor

from tracking.ledger.record import Analysis

FACTS = {"layers": "n_layers", "heads": "n_heads", "probes": "pairs"}
VALUES = {"edges": "edge_scores", "weights": "weight_change", "probes_needed": "pairs_needed"}
SETTINGS = {"steps": "ig_steps", "max_steps": "max_ig_steps"}
THRESHOLDS = ("member", "effect", "weak_faithfulness", "weak_jaccard")


def laid_out(
    facts: dict[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The facts and tensors of a record of format 3 under the names of format 4."""
    facts = {FACTS.get(name, name): value for name, value in facts.items()}
    settings = facts.get("settings", {})
    facts["thresholds"] = {k: v for k, v in settings.items() if k in THRESHOLDS}
    facts["settings"] = {SETTINGS.get(k, k): v for k, v in settings.items() if k not in THRESHOLDS}
    parts = {
        item.name: part
        for part, result in get_type_hints(Analysis).items()
        for item in fields(result)
    }
    named = {contrast: _named(numbers) for contrast, numbers in facts["analyses"].items()}
    facts["analyses"] = {
        contrast: {
            part: {name: value for name, value in numbers.items() if parts[name] == part}
            for part in set(parts.values())
        }
        for contrast, numbers in named.items()
    }
    placed = {}
    for path, tensor in tensors.items():
        contrast, _, name = path.rpartition("/")
        name = VALUES.get(name, name)
        if name in parts:
            placed[f"{contrast}/{parts[name]}/{name}"] = tensor
    return facts, placed


def _named(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {VALUES.get(name, name): value for name, value in numbers.items()}
