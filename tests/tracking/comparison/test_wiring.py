"""Rankings of one model in another: a planted swap of wires is seen, equal wires suffice."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from tests.builders import planted as plants
from tests.builders.comparisons import comparison_of
from tests.builders.rewired import rewired
from tracking.comparison.nodes import nodes_section
from tracking.comparison.relation import Relation
from tracking.comparison.wiring import wiring_section

EXACT: dict[str, Any] = {"ig_steps": 20, "max_ig_steps": 40}


def test_swapped_wires_differ_and_nodes_do_not() -> None:
    models = {"straight": rewired(False), "swapped": rewired(True)}
    comparison = comparison_of(models, plants.pairs(32), **EXACT, select="edges=6")
    # heads that differ in their wires alone could as well have changed places
    assert not comparison.relations["straight", "swapped"].one_base
    known = dict.fromkeys(product(models, models), Relation(True, "by hand"))
    comparison = replace(comparison, relations=known)
    wires = wiring_section(comparison)
    assert len(wires.sentences) == 2
    assert all("do not suffice there" in one for one in wires.sentences)
    nodes = nodes_section(comparison)
    assert "On 'pairs' pairs no node is shown to be active in one only." in nodes.sentences
    assert not nodes.tables["node_differences"]["differs"].any()


def test_the_same_wires_suffice_whatever_the_gain() -> None:
    louder: Any = rewired(False)
    louder.model.norm.weight.data *= 2
    comparison = comparison_of(
        {"a": rewired(False), "b": louder}, plants.pairs(32), **EXACT, select="edges=6"
    )
    section = wiring_section(comparison)
    assert all("suffice there" in one and "not" not in one for one in section.sentences)
    table = section.tables["wiring"]
    sized = table[table["at"] != ""].dropna(subset=["kept"])
    assert sized["kept"].tolist() == pytest.approx([1] * len(sized), abs=1e-3)


def test_a_model_that_is_gone_ranks_and_is_not_tried() -> None:
    comparison = comparison_of(
        {"a": rewired(False), "b": rewired(False)}, plants.pairs(32), **EXACT
    )
    first, second = comparison.parties
    section = wiring_section(replace(comparison, parties=[replace(first, load=None), second]))
    assert section.sentences[0] == "a's weights are gone: no ranking is tried in it."
    assert set(section.tables["wiring"]["ranked_by"]) == {"a"}


def test_the_ends_of_a_control_are_tried_in_each_other() -> None:
    run, ends = (
        comparison_of({name: rewired(False) for name in names}, plants.pairs(32), **EXACT)
        for names in (("a", "b"), ("control@0", "control@9"))
    )
    table = wiring_section(replace(run, control=ends)).tables["wiring"]
    tried = set(table[["ranked_by", "model"]].itertuples(index=False, name=None))
    beside = {("control@0", "control@9"), ("control@9", "control@0")}
    assert tried == {("a", "b"), ("b", "a")} | beside
