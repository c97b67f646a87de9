"""A head attends otherwise where halves of the pairs do not explain it."""

from dataclasses import replace
from typing import Any

import torch

from tests.builders import planted as plants
from tests.builders.comparisons import comparison_of
from tracking.comparison.function.heads import heads_section


def test_a_head_that_is_planted_attends_otherwise_and_has_moved() -> None:
    more: Any = plants.planted()
    with torch.no_grad():
        plants.plant(more.model.layers[1].self_attn, 1)
    section = heads_section(comparison_of({"a": plants.planted(), "b": more}, plants.pairs(32)))
    table = section.tables["heads"].set_index("head")
    assert list(table.index[table["differs"]]) == ["L1H1"]
    assert list(table.index[table["role"] != table["role_against"]]) == ["L1H1"]
    assert list(table.index[table["weight_change"] > 0]) == ["L1H1"]
    assert any("heads attend otherwise in b than in a: L1H1 (" in one for one in section.sentences)


def test_a_model_attends_as_itself() -> None:
    models = {name: plants.planted() for name in "ab"}
    section = heads_section(comparison_of(models, plants.pairs(32)))
    assert "On 'pairs' pairs no head attends otherwise in b than in a." in section.sentences
    assert "The weights of q, k, v and o are the same in a and b." in section.sentences
    assert (section.tables["heads"]["weight_change"] == 0).all()


def test_a_head_that_a_control_moves_as_far_does_not_attend_otherwise() -> None:
    more: Any = plants.planted()
    with torch.no_grad():
        plants.plant(more.model.layers[1].self_attn, 1)
    pairs = plants.pairs(32)
    run = comparison_of({"a": plants.planted(), "b": more}, pairs)
    still = comparison_of({"c@0": plants.planted(), "c@9": plants.planted()}, pairs)
    moving = comparison_of({"c@0": plants.planted(), "c@9": more}, pairs)
    otherwise = "heads attend otherwise in b than in a, beyond any head of the control: L1H1"
    for control, words in ((still, otherwise), (moving, "no head attends otherwise in b than")):
        section = heads_section(replace(run, control=control))
        assert sum(words in sentence for sentence in section.sentences) == 1
    table = section.tables["heads"].set_index(["model", "head"])
    assert table.loc[("c@9", "L1H1"), "differs"]  # the control's own ends have no control
