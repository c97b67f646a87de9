"""What is said of parts is what was measured of them."""

import copy
from dataclasses import replace
from typing import Any

import pytest

from tests.builders.comparisons import comparison_of
from tests.builders.planted import pairs, planted
from tests.builders.two_models import scaled
from tracking.comparison.exchange.section import parts_section
from tracking.comparison.party import Comparison


def test_the_part_that_was_changed_is_said_to_carry_it() -> None:
    base = planted(noise=0.01)
    section = parts_section(comparison_of({"base": base, "run": scaled(base, 1.5)}, pairs()))
    text = " ".join(section.sentences)
    assert "of the layers most heads of layer 1, 1.00 (1.00 to 1.00)" in text
    assert section.shown is not None
    shown = section.shown.set_index(["part", "by"])["lost"]
    assert shown["attention", "writes"] == shown["attention", "weights"] == "1.00 (1.00 to 1.00)"
    assert set(section.tables["parts"]["by"]) == {"writes", "weights"}


def test_of_a_copy_no_part_is_said_to_carry_anything() -> None:
    base = planted(noise=0.01)
    section = parts_section(comparison_of({"base": base, "run": copy.deepcopy(base)}, pairs()))
    (sentence,) = section.sentences
    assert "no difference for sure, so no part is said to carry it" in sentence


def louder(factor: float) -> Comparison:
    """A base and a run whose head writes so many times as much."""
    base: Any = planted(noise=0.01)
    return comparison_of({"base": base, "run": scaled(base, factor)}, pairs())


@pytest.mark.parametrize(
    ("control", "more"),
    [
        (1.1, "attention by writes, attention by weights"),
        (1.5, "no part for sure"),
        (0.5, "no part for sure"),  # as large a change, the other way
    ],
)
def test_a_part_goes_beyond_a_control_that_changed_it_less(control: float, more: str) -> None:
    beside = louder(control)
    section = parts_section(replace(louder(1.5), control=beside))
    assert section.sentences[-1].endswith(
        f"more than the control's carries of run's less base's: {more}."
    )
    table, own = (one.tables["parts"] for one in (section, parts_section(beside)))
    for way in ("lost", "gained"):
        assert table[f"{way}_control"].tolist() == pytest.approx(own[way].tolist(), abs=1e-5)


def test_a_control_whose_weights_are_gone_gives_parts_no_level() -> None:
    base = planted(noise=0.01)
    comparison = comparison_of({"base": base, "run": scaled(base, 1.5)}, pairs())
    gone = [replace(party, load=None) for party in comparison.parties]
    section = parts_section(replace(comparison, control=replace(comparison, parties=gone)))
    assert "lost_control" not in section.tables["parts"]
    assert not any("control" in sentence for sentence in section.sentences)
