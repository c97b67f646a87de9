"""Records of formats 3 and 4, laid out as those of today; what they lack is missing (NaN).

They have no exact effects and no logit differences: their nodes are undecided, their behaviour is
unknown, and what they say of circuits stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

FACTS = {"layers": "n_layers", "heads": "n_heads", "probes": "pairs"}
VALUES = {"edges": "edge_scores", "weights": "weight_change", "probes_needed": "pairs_needed"}
SETTINGS = {"steps": "ig_steps", "max_steps": "max_ig_steps"}
THRESHOLDS = ("member", "weak_faithfulness", "weak_jaccard")
BEYOND = torch.iinfo(torch.int32).max  # an entry at no size

Facts = dict[str, Any]
Tensors = dict[str, Tensor]


def laid_out(facts: Facts, tensors: Mapping[str, Tensor]) -> tuple[Facts, Tensors]:
    """The facts and tensors of a record of format 3 or 4 as those of format 5."""
    facts = {FACTS.get(name, name): value for name, value in facts.items()}
    settings = facts.get("settings", {})
    kept = facts.get("thresholds", {}) | {k: v for k, v in settings.items() if k in THRESHOLDS}
    facts["thresholds"] = {k: v for k, v in kept.items() if k in (*THRESHOLDS, "gap")}
    facts["settings"] = {
        SETTINGS.get(k, k): v for k, v in settings.items() if k not in (*THRESHOLDS, "effect")
    }
    analyses, out = {}, {}
    for contrast, numbers in facts["analyses"].items():
        given = {
            path.removeprefix(f"{contrast}/").rpartition("/")[2]: tensor
            for path, tensor in tensors.items()
            if path.startswith(f"{contrast}/")
        }
        analyses[contrast], placed = _analysis(
            _flat(numbers), {VALUES.get(name, name): t for name, t in given.items()}, facts
        )
        out |= {f"{contrast}/{path}": tensor for path, tensor in placed.items()}
    return {**facts, "analyses": analyses}, out


def _flat(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers by name; format 4 has them by part."""
    parts = [part for part in numbers.values() if isinstance(part, Mapping)]
    flat = {name: value for part in parts for name, value in part.items()} or dict(numbers)
    return {VALUES.get(name, name): value for name, value in flat.items()}


def _analysis(
    numbers: dict[str, Any], given: dict[str, Tensor], facts: Facts
) -> tuple[dict[str, dict[str, Any]], Tensors]:
    """Numbers by part, tensors by `part/name`."""
    layers, heads = facts["n_layers"], facts["n_heads"]
    nodes, pairs = layers * (heads + 1), len(given["effect"])
    of_pairs, of_nodes = torch.full((pairs,), torch.nan), torch.full((pairs, nodes), torch.nan)
    circuit, inside = given["circuit"].bool(), given["in_circuit"].bool()
    size = int(circuit.sum())
    entries = torch.full((len(inside), layers, heads + 1), BEYOND, dtype=torch.int32)
    entries[..., :heads][inside.unflatten(1, (layers, heads))] = size
    none = torch.zeros(nodes, dtype=torch.bool)
    tensors = {
        "behaviour/clean": of_pairs,
        "behaviour/corrupted": of_pairs,
        "behaviour/clean_probability": torch.full((pairs,), numbers["clean"]),
        "behaviour/corrupted_probability": torch.full((pairs,), numbers["corrupted"]),
        "scores/edge_scores": given["edge_scores"],
        "scores/strength": given["strength"],
        "circuit/circuit": circuit,
        "circuit/curve": given["curve"],
        "stability/entries": entries.flatten(1),
        "stability/edge_entry": torch.where(circuit, size, BEYOND).int(),
        "stability/edge_membership": given["edge_membership"],
        "nodes/corrupt": of_nodes,
        "nodes/restore": of_nodes,
        "nodes/attributed": of_nodes,
        "nodes/sampled": none,
        "nodes/together": none,
        "nodes/together_corrupt": of_pairs,
        "nodes/together_restore": of_pairs,
        "heads/roles": given["roles"],
        "heads/weight_change": given["weight_change"],
    }
    parts = {
        "scores": ("gap",),
        "circuit": ("faithfulness", "faithfulness_low", "faithfulness_high", "complement",
                    "accuracy", "clean_accuracy", "cpr", "cmd"),
        "stability": ("jaccard", "jaccard_low", "jaccard_high", "rank_correlation",
                      "pairs_needed"),
    }  # fmt: skip
    named = {part: {name: numbers[name] for name in names} for part, names in parts.items()}
    named["circuit"]["size"] = size
    return named, tensors
