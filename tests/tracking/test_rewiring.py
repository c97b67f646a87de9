"""Wiring between checkpoints: each ranking in another checkpoint's model."""

from typing import Any

import pytest

from tests.builders import planted as plants
from tests.builders.records import in_a_row
from tracking.errors import BadInput
from tracking.rewiring import rewiring

SETTINGS: dict[str, Any] = {"ig_steps": 20, "max_ig_steps": 40}


def test_each_checkpoint_is_tried_by_the_one_before_and_the_last() -> None:
    models, pairs = [plants.planted() for _ in range(4)], plants.pairs(32)
    for gain, model in enumerate(models):
        model.model.norm.weight.data *= 1 + gain  # the same wires at all
    records = in_a_row(models, pairs, **SETTINGS)
    loaded = {step: (lambda step=step: models[step]) for step in (0, 1, 3)}
    table = rewiring(records, {"pairs": pairs}, loaded)
    tried = list(zip(table["step"], table["ranked_by"], strict=True))
    assert tried == [(0, 3), (1, 0), (1, 3), (3, 2)]
    assert table["wiring_kept"].tolist() == pytest.approx([1] * 4, abs=1e-3)
    assert (table["low"] <= table["wiring_kept"] + 1e-6).all()


def test_checkpoints_that_are_gone_are_said_to_be() -> None:
    models, pairs = [plants.planted() for _ in range(2)], plants.pairs(32)
    records = in_a_row(models, pairs, **SETTINGS)
    with pytest.raises(BadInput, match="1 of 2 records have their checkpoint still"):
        rewiring(records, {"pairs": pairs}, {0: lambda: models[0]})
