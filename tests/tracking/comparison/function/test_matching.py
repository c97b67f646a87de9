"""Heads that have only changed places are found again; of unlike ones chance alone is matched."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from scripts.control.models import loaded, tiny_pairs
from tests.builders.comparisons import comparison_of
from tests.builders.exchanged import exchanged
from tracking.comparison.function.bases import matching_section
from tracking.comparison.function.matching import Nodes, matching
from tracking.comparison.nodes import nodes_section
from tracking.comparison.party import Comparison
from train.tiny.base import base_model

PAIRS = 48


@pytest.fixture(scope="module")
def moved() -> tuple[Comparison, dict[str, str]]:
    """The tiny base beside itself with its heads in another order, and their other names."""
    base: Any = loaded(base_model())
    other, names = exchanged(base, seed=3)
    pairs = tiny_pairs("operand", 64)[:PAIRS]
    with torch.no_grad():
        ours, theirs = (model(pairs.clean).logits for model in (base, other))
    assert torch.allclose(ours, theirs, atol=1e-4)
    comparison = comparison_of({"base": base, "moved": other}, pairs, select="edges=30")
    heads = comparison.parties[0].record.graph.head_names
    return comparison, dict(zip(heads, names, strict=True))


def test_heads_in_another_order_are_another_base_by_name(moved) -> None:
    comparison, names = moved
    assert any(name != other for name, other in names.items())
    assert not comparison.relations["base", "moved"].one_base
    assert nodes_section(comparison).sentences[-1].startswith("Nodes are compared by name only")


def test_heads_that_changed_places_are_matched_with_themselves(moved) -> None:
    comparison, names = moved
    section = matching_section(comparison)
    table = section.tables["matches"]
    heads = table[table["kind"] == "head"]
    assert len(heads) >= 4 and heads["beyond_chance"].all()
    assert dict(zip(heads["node"], heads["match"], strict=True)) == {
        head: names[head] for head in heads["node"]
    }
    assert heads["likeness"].min() > 0.99
    mlps = table[table["kind"] == "mlp"]
    assert (mlps["node"] == mlps["match"]).all()


def test_what_a_control_ended_with_is_matched_as_the_first_model_is(moved) -> None:
    comparison, _ = moved
    first = comparison.parties[0]
    ends = [replace(first, name=name) for name in ("control@0", "control@9")]
    control = Comparison(ends, {}, comparison.thresholds)
    table = matching_section(replace(comparison, control=control)).tables["matches"]
    matches = [table[table["model"] == name] for name in ("base", "control@9")]
    assert matches[0]["match"].tolist() == matches[1]["match"].tolist() != []


def unlike(seed: int, nodes: int = 6, pairs: int = 40) -> Nodes:
    """Nodes whose effects are noise, about a share of a common behaviour."""
    generator = np.random.default_rng(seed)
    effects = 1 + generator.standard_normal((pairs, 2, nodes))
    roles = generator.random((6, nodes))
    return Nodes([f"L0H{n}" for n in range(nodes)], effects, roles, np.ones(nodes, dtype=bool))


def test_nodes_that_are_unlike_are_rarely_matched_beyond_chance() -> None:
    result = 0
    for seed in range(20):
        behaviours = np.random.default_rng(100 + seed).random((2, 40))
        matched = matching(unlike(2 * seed), unlike(2 * seed + 1), behaviours, 0.05)
        result += matched.table["beyond_chance"].any()
    assert result <= 4  # 1 is expected


def test_what_follows_from_the_behaviour_alone_is_no_likeness() -> None:
    behaviour = np.random.default_rng(0).random(40)
    effects = behaviour[:, None, None] * np.array([0.3, 0.5])[None, None]
    nodes = Nodes(["M0", "M1"], np.repeat(effects, 2, axis=1), np.zeros((0, 2)), np.ones(2, bool))
    matched = matching(nodes, nodes, np.stack([behaviour, behaviour]), 0.05)
    assert matched.table["correlation"].abs().max() < 1e-6
    assert not matched.table["beyond_chance"].any()


def test_nodes_without_a_counterpart_are_named() -> None:
    behaviours = np.random.default_rng(0).random((2, 40))
    one = unlike(0)
    few = Nodes(one.names[:2], one.effects[:, :, :2], one.roles[:, :2], one.active[:2])
    matched = matching(one, few, behaviours, 0.05)
    assert matched.table["node"].tolist() == ["L0H0", "L0H1"]
    assert matched.unmatched == (["L0H2", "L0H3", "L0H4", "L0H5"], [])
    none = Nodes([], np.zeros((40, 2, 0)), np.zeros((6, 0)), np.zeros(0, bool))
    assert matching(one, none, behaviours, 0.05).table.empty
