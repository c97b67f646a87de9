"""A control's level is what a run in which nothing was taught does at the same places."""

import copy
from typing import Any

import pytest
import torch

from tests.builders.planted import COPY, NOISE, planted
from tests.builders.two_models import miscopying, planted_texts, scaled
from tracking.comparison.shift.control import beyond, control_level
from tracking.comparison.shift.section import shift_section
from tracking.comparison.shift.shift import Carried, Judged, Shift
from tracking.comparison.shift.shown import positions

TEXTS = planted_texts()


@pytest.fixture(scope="module")
def base() -> Any:
    return planted(noise=0.01)


@pytest.fixture(scope="module")
def carried(base: Any) -> Carried:
    out = Shift.of(base, miscopying(base), TEXTS).carried
    assert out is not None
    return out


def test_a_control_that_changed_as_much_leaves_nothing_beyond(base: Any, carried: Carried) -> None:
    level = control_level(base, miscopying(base), carried, TEXTS)
    assert level.moved is not None and float(level.moved.mean) == pytest.approx(1, abs=1e-5)
    assert level.own.carried is not None and level.own.carried.carriers == [COPY]
    assert level.nodes.set_index("node").loc[COPY, "gained_share"] == pytest.approx(1, abs=1e-3)
    assert beyond(level, carried) == []


def test_a_control_that_is_the_base_takes_nothing_away(base: Any, carried: Carried) -> None:
    level = control_level(base, copy.deepcopy(base), carried, TEXTS)
    assert level.moved is not None and float(level.moved.mean) == 0
    assert level.own.carried is None
    assert (level.nodes[["lost", "gained"]].abs() < 1e-4).all(axis=None)
    assert beyond(level, carried) == [COPY]


def test_a_control_that_changed_more_leaves_nothing_beyond(base: Any) -> None:
    weakly = Shift.of(base, scaled(miscopying(base), 0.1), TEXTS).carried
    assert weakly is not None and weakly.carriers == [COPY]
    level = control_level(base, miscopying(base), weakly, TEXTS)
    of_copy: Any = level.nodes.set_index("node").loc[COPY]
    assert of_copy["beyond_gained_share_high"] < -0.05
    assert beyond(level, weakly) == []


def test_a_control_of_another_change_is_told_from_the_run(base: Any, carried: Carried) -> None:
    louder = copy.deepcopy(base)
    with torch.no_grad():
        louder.model.layers[2].mlp.down_proj.weight[NOISE] += 0.5
    level = control_level(base, louder, carried, TEXTS)
    assert beyond(level, carried) == [COPY]


def test_without_places_only_the_policies_are_compared(base: Any) -> None:
    level = control_level(base, miscopying(base), None, TEXTS)
    assert level.moved is None and len(level.nodes) == 0 and level.own.carried is not None


def test_the_section_says_who_carries_it_and_the_level(base: Any, carried: Carried) -> None:
    shift = Shift.of(base, miscopying(base), TEXTS)
    places = positions(TEXTS, shift.divergence, str)
    level = control_level(base, copy.deepcopy(base), shift.carried, TEXTS)
    section = shift_section("run", "base", shift, places, level)
    text = " ".join(section.sentences)
    assert f"carry it: {COPY} (lost 1.00, gained 1.00)." in text
    assert "More than the control's node does there carries: L1H2." in text
    assert "this is above 0 is by construction" in text
    assert set(section.tables) == {
        f"shift_{key}_run" for key in ("positions", "nodes", "parts", "by_weights", "control")
    }
    assert section.shown is not None and section.shown["node"][0] == COPY


def test_the_section_says_how_much_no_node_carries(base: Any) -> None:
    shift = Shift.of(base, miscopying(base), TEXTS, Judged(share=1.5))
    section = shift_section("run", "base", shift, positions(TEXTS, shift.divergence, str))
    assert "No single node comes out: none is sure to carry 1.5 of it alone." in section.sentences


def test_the_section_does_not_deny_what_correction_alone_leaves_out(base: Any) -> None:
    shift = Shift.of(base, miscopying(base), TEXTS, Judged(error=1e-12))
    section = shift_section("run", "base", shift, positions(TEXTS, shift.divergence, str))
    sentences = " ".join(section.sentences)
    assert "No single node comes out. Not after correction over" in sentences
    assert f"but each by itself: {COPY} (lost 1.00, gained 1.00)." in sentences
    assert "none is sure to carry" not in sentences


def test_the_section_of_no_change_says_so(base: Any) -> None:
    shift = Shift.of(base, copy.deepcopy(base), TEXTS)
    section = shift_section("run", "base", shift, positions(TEXTS, shift.divergence, str))
    assert section.sentences[-1] == (
        "Nobody is said to carry it: the two policies do not differ on any token."
    )
