"""Rows say what a node does, since when, and how far it moved."""

import numpy as np
import pandas as pd
import pytest
import torch

from tests.builders.analyses import make_analysis
from tests.builders.timelines import records_by, records_from, records_named, records_of
from tracking.ledger.record import Record
from tracking.model.graph import Graph
from tracking.nodes.role_words import SCORES
from tracking.timeline.activity import Thresholds
from tracking.timeline.node_table import MOVED, node_table
from tracking.timeline.shares import Shares

GRAPH = Graph(2, 2)


def table_of(records: list[Record], **more: float) -> pd.DataFrame:
    shares = [Shares.of(record.analyses["cue"]) for record in records]
    return node_table(records, "cue", shares, Thresholds(), **more)


def rows_of(paths: dict[str, list[float]], **more: float) -> pd.DataFrame:
    return table_of(records_named(GRAPH, paths), **more)


def of(table: pd.DataFrame, node: str, column: str) -> list:
    return table[table["node"] == node][column].tolist()


def test_there_is_a_row_a_step_and_node_in_the_graph_s_order() -> None:
    table = rows_of({"L0H0": [0.4, 0.4]})
    assert table["step"].tolist() == [0] * 6 + [10] * 6
    assert table["node"].tolist() == list(GRAPH.nodes) * 2
    assert of(table, "L1H1", "kind") == ["head"] * 2 and of(table, "M1", "kind") == ["mlp"] * 2
    assert of(table, "M1", "layer") == [1, 1] and of(table, "L0H1", "layer") == [0, 0]


def test_states_cohorts_and_fates_are_those_of_the_shares() -> None:
    table = rows_of({"L0H0": [0.4, 0.4, 0], "M1": [0, 0.4, 0.4], "L1H0": [0, 0.4, 0]})
    assert of(table, "L0H0", "state") == ["base", "retained", "faded"]
    assert of(table, "M1", "state") == ["inactive", "new", "surviving"]
    assert of(table, "L1H0", "state") == ["inactive", "new", "pruned"]
    assert np.array_equal(of(table, "M1", "cohort"), [np.nan, 10, 10], equal_nan=True)
    assert of(table, "M1", "origin") == ["", "recruited", "recruited"]
    assert of(table, "M1", "activations") == pytest.approx([0, 1 / 2, 2 / 3])
    fates = [of(table, node, "fate")[0] for node in ("L0H0", "M1", "L1H0", "M0")]
    assert fates == ["", "survivor", "transient", ""]


def test_what_comes_where_step_0_had_no_behaviour_came_with_it() -> None:
    absent = make_analysis(GRAPH, clean=make_analysis(GRAPH).behaviour.corrupted)
    there = records_named(GRAPH, {"L0H0": [0.4]})[0].analyses["cue"]
    table = table_of(records_of(GRAPH, [absent, there, there]))
    assert of(table, "L0H0", "origin") == ["", "with the behaviour", "with the behaviour"]
    assert of(table, "L0H0", "state") == ["inactive", "new", "surviving"]
    assert of(table, "L0H0", "verdict")[0] == "absent"


def test_the_share_is_the_larger_of_both_with_its_own_interval() -> None:
    record = records_named(GRAPH, {"L0H0": [0.4]}, noise=0.05)[0]
    analysis = record.analyses["cue"]
    table = table_of([record])
    shares = Shares.of(analysis)
    low, high = shares.interval
    assert of(table, "L0H0", "corrupt") == pytest.approx([shares.value[0, 0]])
    assert of(table, "L0H0", "restore_low") == pytest.approx([low[1, 0]])
    assert of(table, "L0H0", "share_high") == pytest.approx([high[shares.larger[0], 0]])
    assert (table["share_low"] <= table["share"] + 1e-9).all()
    assert table["measured"].all() and not table["sampled"].any()


def test_drift_has_a_word_of_its_own_only_beyond_a_control_s_level() -> None:
    paths = {"L0H0": [0.4, 0.5], "L0H1": [0.5, 0.4], "L1H0": [0.4, 0.4]}
    drift = {level: [of(rows_of(paths, level=level), node, "drift")[1] for node in paths]
             for level in (0.05, 0.2)}  # fmt: skip
    assert drift == {0.05: ["grown", "shrunk", ""], 0.2: ["drifted", "drifted", ""]}
    plain = rows_of(paths)
    assert [of(plain, node, "drift")[1] for node in paths] == ["drifted", "drifted", ""]


def test_a_head_that_restores_more_has_not_shrunk_for_losing_as_much_as_before() -> None:
    less = [r.analyses["cue"].nodes.corrupt for r in records_named(GRAPH, {"L0H0": [0.5, 0.49]})]
    more = [r.analyses["cue"].nodes.corrupt for r in records_named(GRAPH, {"L0H0": [0.1, 0.4]})]
    analyses = [make_analysis(GRAPH, corrupt=a, restore=b) for a, b in zip(less, more, strict=True)]
    table = table_of(records_of(GRAPH, analyses), level=0.1)
    assert of(table, "L0H0", "drift") == ["", "grown"]


def test_change_is_in_the_direction_in_which_it_is_largest() -> None:
    table = rows_of({"L0H0": [0.4, 0.1], "L0H1": [-0.1, 0.2]})
    assert of(table, "L0H0", "change") == pytest.approx([0, -0.3], abs=1e-4)
    assert of(table, "L0H1", "change") == pytest.approx([0, 0.3], abs=1e-4)


def test_entry_and_membership_are_of_the_resamples_at_the_run_s_size() -> None:
    entries = torch.full((50, 6), 99, dtype=torch.int32)
    entries[:40, 0] = 10  # the size itself is within it
    entries[:, 2] = 3
    table = table_of(records_by(GRAPH, np.zeros((1, 6)), entries=entries)
    )  # fmt: skip
    assert table["entry"].tolist() == [10, 99, 3, 99, 99, 99]
    assert table["membership"].tolist() == pytest.approx([0.8, 0, 1, 0, 0, 0])


def test_rows_say_what_a_head_does_and_how_far_it_moved_and_of_mlps_nothing() -> None:
    roles = torch.zeros(len(SCORES), 2)
    roles[SCORES.index("induction"), 0] = 0.9
    moved = torch.arange(10.0).view(5, 2)
    records = records_from(["#", "#"], roles=roles, weight_change=moved)
    table = table_of(records)
    assert table["role"].tolist() == ["induction", "-", "-"]
    assert table["role_induction"].tolist()[:2] == pytest.approx([0.9, 0])
    assert table[list(MOVED)].iloc[:2].to_numpy().T.tolist() == moved.tolist()
    numbers = [*MOVED, "importance", "importance_symmetric", "shift", "role_induction"]
    assert table.iloc[2][numbers].isna().all()
