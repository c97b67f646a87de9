"""Breadth is where curves cross the same faithfulness, and its ratio is paired over problems."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.comparisons import comparison_of
from tests.builders.planted import pairs as planted_pairs
from tests.builders.planted import plant, planted
from tracking.circuits.faithfulness import Experiment
from tracking.circuits.top_edges import by_count
from tracking.comparison.prompts.breadth import (
    Carried,
    _put_down,
    breadth,
    breadth_ratios,
    breadth_section,
    fewest,
)
from tracking.comparison.prompts.breadth import (
    carried as carried_by,
)
from tracking.comparison.wiring import ranked
from tracking.stability.bootstrap import resamples

COUNTS = (1, 10, 100, 1000)


def carried(
    curve: list[float], pairs: int = 40, seed: int = 0, noise: float = 0.1, heads: int = 20
) -> Carried:
    """A condition with this mean faithfulness over `COUNTS`; heads come in at 10, 20, 30, ...
    edges."""
    rng = np.random.default_rng(seed)
    behaviour = torch.from_numpy(rng.uniform(1, 3, pairs)).float()
    each = np.array(curve)[:, None] + noise * rng.normal(size=(len(curve), pairs))
    each[-1] = curve[-1]
    part = torch.from_numpy(each).float() * behaviour
    return Carried(COUNTS, part, behaviour, torch.arange(1, heads + 1) * 10)


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.floats(0.05, 0.95))
def test_the_fewest_edges_are_where_a_rising_curve_crosses(curve, wanted) -> None:
    rising = sorted(curve)
    edges = float(fewest(torch.tensor(rising)[:, None], COUNTS, wanted)[0])
    if rising[-1] < np.float32(wanted):
        assert math.isinf(edges)
        return
    assert COUNTS[0] <= edges <= COUNTS[-1] * (1 + 1e-5)
    there = np.interp(np.log(edges), np.log(COUNTS), rising)
    assert there >= wanted - 1e-3
    if edges > 1.001 and all(b - a > 1e-3 for a, b in pairwise(rising)):
        assert there == pytest.approx(wanted, abs=1e-2)


def test_the_first_crossing_of_a_curve_that_falls_again_is_taken() -> None:
    curve = torch.tensor([0.0, 0.9, 0.5, 1.0])[:, None]
    assert float(fewest(curve, COUNTS, 0.9)[0]) == pytest.approx(10, rel=1e-5)


def test_without_behaviour_breadth_is_not_known() -> None:
    one = carried([0, 0.5, 0.9, 1])
    none = Carried(one.counts, one.carried, -one.behaviour, one.entries)
    row = breadth({"on": none}, 0.8, resamples(50, 40)).iloc[0]
    assert math.isnan(row["edges"]) and row["edges_high"] == math.inf


def test_where_no_circuit_is_faithful_edges_and_heads_are_without_end() -> None:
    row = breadth({"on": carried([0, 0, 0.1, 0.2], noise=0)}, 0.8, resamples(50, 40)).iloc[0]
    assert row["edges"] == row["heads"] == row["heads_low"] == math.inf


def test_heads_are_those_that_are_in_the_circuit_of_that_size() -> None:
    row = breadth({"on": carried([0, 0, 0.8, 1], noise=0)}, 0.8, resamples(50, 40)).iloc[0]
    assert row["edges"] == pytest.approx(100, rel=1e-4)
    assert row["heads"] in (9, 10)  # the tenth comes in at 100


def test_a_mode_that_needs_more_edges_is_broader_and_like_ones_are_not() -> None:
    narrow, broad = [0.2, 0.8, 0.95, 1.0], [0.1, 0.3, 0.8, 1.0]
    conditions = {"on": carried(narrow), "off": carried(broad, seed=1)}
    row = breadth_ratios(conditions, 0.8, resamples(200, 40)).iloc[0]
    assert (row["condition"], row["against"]) == ("off", "on")
    assert row["edges"] == pytest.approx(10, rel=0.3) and row["broader"] and not row["narrower"]
    assert row["heads_low"] > 1
    like = {"on": carried(narrow), "off": carried(narrow, seed=1)}
    row = breadth_ratios(like, 0.8, resamples(200, 40)).iloc[0]
    assert not row["broader"] and not row["narrower"]


def test_a_broader_mode_is_thinking_s_only_where_the_control_is_like_on() -> None:
    narrow, broad = [0.2, 0.8, 0.95, 1.0], [0.1, 0.3, 0.8, 1.0]
    for control, word in ((narrow, "is thinking's"), (broad, "is not shown to be thinking's")):
        conditions = {
            "on": carried(narrow), "off": carried(broad, seed=1),
            "template": carried(control, seed=2),
        }  # fmt: skip
        (sentence,) = _put_down("cue", breadth_ratios(conditions, 0.8, resamples(200, 40)))
        assert f"off is broader {word}" in sentence
    alike = {name: carried(narrow, seed=n) for n, name in enumerate(("on", "off", "template"))}
    assert not _put_down("cue", breadth_ratios(alike, 0.8, resamples(200, 40)))


def test_a_condition_against_itself_has_a_ratio_of_exactly_1() -> None:
    one = carried([0.2, 0.8, 0.95, 1.0])
    row = breadth_ratios({"a": one, "b": one}, 0.8, resamples(100, 40)).iloc[0]
    assert (row["edges_low"], row["edges"], row["edges_high"]) == (1, 1, 1)


def test_a_circuit_of_the_fewest_edges_is_as_faithful_as_wanted() -> None:
    model, pairs = planted(), planted_pairs(32)
    (party,) = comparison_of({"one": model}, pairs).parties
    curve = carried_by(party, "pairs", 32)
    row = breadth({"one": curve}, 0.8, resamples(50, 32)).iloc[0]
    tried = Experiment.of(model, pairs, "neg_logit_diff")
    sizes = [size for size in curve.counts if size >= row["edges"]][:1]
    runs = tried.run([by_count(tried.graph, ranked(party, "pairs"), size) for size in sizes])
    assert runs.faithfulness(0, resamples(50, 32)).value >= 0.8
    assert row["heads"] >= 1 and math.isfinite(row["edges_high"])


def test_a_model_in_which_two_heads_share_the_work_is_not_narrower() -> None:
    two = planted()
    with torch.no_grad():
        plant(two.model.layers[1].self_attn, 1)
    section = breadth_section(comparison_of({"one": planted(), "two": two}, planted_pairs(32)))
    (row,) = section.tables["breadth_ratios"].to_dict("records")
    assert row["condition"] == "two" and row["edges"] > 1 and row["broader"]
    assert "two is broader" in section.sentences[0]
