"""A timeline is a pure function of its records, and all but fates is blind to the future."""

from dataclasses import replace
from math import isnan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders.timelines import records_by, records_from, records_named
from tracking.errors import BadInput
from tracking.ledger.ledger import Ledger
from tracking.model.graph import Graph
from tracking.timeline.activity import Thresholds
from tracking.timeline.summary import Summary
from tracking.timeline.timeline import Timeline

GRAPH = Graph(1, 2)
OF_THE_WHOLE_RUN = ["fate", "lasting"]


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 7))
def test_a_later_record_changes_no_earlier_row(seed: int, upto: int) -> None:
    generator = np.random.default_rng(seed)
    shares = generator.choice([0, 0.04, 0.06, 0.3, -0.2], (7, 3))
    noise = generator.choice([0.0, 0.02, 0.2])
    records = records_by(GRAPH, shares, noise, gap=generator.choice([0.01, 0.5]))
    whole, part = Timeline.of(records), Timeline.of(records[:upto])
    rows = whole.nodes[whole.nodes["step"] < 10 * upto].drop(columns=OF_THE_WHOLE_RUN)
    pd.testing.assert_frame_equal(rows, part.nodes.drop(columns=OF_THE_WHOLE_RUN))
    pd.testing.assert_frame_equal(whole.counts[:upto], part.counts)


def test_a_timeline_of_no_record_is_refused() -> None:
    with pytest.raises(BadInput, match="no records"):
        Timeline.of([])


def test_contrasts_are_judged_apart_and_asked_for_by_name() -> None:
    first, second = records_from(["#.", ".#"]), records_from([".#", ".."])
    both = [replace(a, analyses={"cue": a.analyses["cue"], "sums": b.analyses["cue"]})
            for a, b in zip(first, second, strict=True)]  # fmt: skip
    timeline = Timeline.of(both)
    assert timeline.contrasts == ["cue", "sums"]
    assert timeline.at(10, "cue")["state"].tolist() == ["faded", "new", "inactive"]
    assert timeline.at(10, "sums")["state"].tolist() == ["new", "inactive", "inactive"]
    nodes, counts = timeline.of_contrast("sums")
    assert set(nodes["contrast"]) == {"sums"} and counts["active"].tolist() == [0, 1]
    with pytest.raises(BadInput, match="'other'; there are cue, sums"):
        timeline.of_contrast("other")


def test_a_control_s_level_is_the_largest_change_of_any_node() -> None:
    control = Timeline.of(records_named(GRAPH, {"L0H0": [0.4, 0.25, 0.4], "M0": [0, 0.1, 0]}))
    assert control.drift("cue") == pytest.approx(0.15, abs=1e-4)
    assert control.control is None
    assert Timeline.of(records_from(["##"]), control=control).control is control


def test_a_control_without_the_behaviour_gives_no_level() -> None:
    still = [0.5, 0.5, 0.5]
    for gone in ((0,), (1, 2)):  # the checkpoints at which it is not there
        records = records_named(GRAPH, {"L0H0": still})
        for place in gone:
            analysis = records[place].analyses["cue"]
            flat = replace(analysis.behaviour, clean=analysis.behaviour.corrupted)
            records[place] = replace(
                records[place], analyses={"cue": replace(analysis, behaviour=flat)}
            )
        control = Timeline.of(records)
        assert isnan(control.drift("cue"))
        run = Timeline.of(records_named(GRAPH, {"L0H0": [0.4, 0.6, 0.8]}), control=control)
        assert "drifted" in set(run.nodes["drift"]) and "grown" not in set(run.nodes["drift"])
        assert "so it gives drift no level" in Summary.of(run, "cue").sentence


def test_a_control_of_one_checkpoint_is_refused() -> None:
    one = Timeline.of(records_from(["#"]))
    with pytest.raises(BadInput, match="one checkpoint"):
        Timeline.of(records_from(["##"]), control=one)


def test_another_threshold_is_another_reading_of_the_same_records() -> None:
    records = records_named(GRAPH, {"L0H0": [0.1, 0.1], "L0H1": [0.4, 0.4]})
    for share, active in ((0.05, 2), (0.2, 1), (0.5, 0)):
        counts = Timeline.of(records, Thresholds(share=share)).counts
        assert counts["active"].tolist() == [active] * 2


def test_a_run_is_read_with_the_thresholds_it_was_made_with(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "heads")
    with pytest.raises(BadInput, match=r"heads has no records; sparks track"):
        Timeline.read(tmp_path)
    ledger.folder.mkdir()
    (record,) = records_named(GRAPH, {"L0H0": [0.1]})
    for share, active in ((0.05, 1), (0.2, 0)):
        ledger.write(replace(record, thresholds={"share": share}))
        assert Timeline.read(tmp_path).counts["active"].tolist() == [active]
    assert Timeline.read(tmp_path, {"share": 0.05}).counts["active"].tolist() == [1]
    with pytest.raises(BadInput, match="no such run"):
        Timeline.read(tmp_path / "elsewhere")
