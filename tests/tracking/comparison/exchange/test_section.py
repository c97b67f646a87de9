"""What is said of parts is what was measured of them."""

import copy

from tests.builders.comparisons import comparison_of
from tests.builders.planted import pairs, planted
from tests.builders.two_models import scaled
from tracking.comparison.exchange.section import parts_section


def test_the_part_that_was_changed_is_said_to_carry_it() -> None:
    base = planted(noise=0.01)
    section = parts_section(comparison_of({"base": base, "run": scaled(base, 1.5)}, pairs()))
    said = " ".join(section.sentences)
    assert "of the layers most heads of layer 1, 1.00 (1.00 to 1.00)" in said
    assert section.shown is not None
    shown = section.shown.set_index(["part", "by"])["lost"]
    assert shown["attention", "writes"] == shown["attention", "weights"] == "1.00 (1.00 to 1.00)"
    assert set(section.tables["parts"]["by"]) == {"writes", "weights"}


def test_of_a_copy_no_part_is_said_to_carry_anything() -> None:
    base = planted(noise=0.01)
    section = parts_section(comparison_of({"base": base, "run": copy.deepcopy(base)}, pairs()))
    (sentence,) = section.sentences
    assert "no difference for sure, so no part is said to carry it" in sentence
