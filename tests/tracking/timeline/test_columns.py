"""The registry of columns is what the timeline has, what is logged, and what the documents say."""

from dataclasses import fields

import torch

from tests.builders.analyses import make_analysis
from tests.builders.paths import REPO
from tracking.ledger.record import Record
from tracking.model.graph import Graph
from tracking.timeline.columns import COUNTS, HEADS, Column, documented, names
from tracking.timeline.timeline import Timeline
from tracking.views import dashboard


def test_a_timeline_has_just_the_columns_of_the_registry() -> None:
    on = {"in_circuit": torch.ones(10, 2).bool(), "effect": torch.full((8, 2), 0.5)}
    record = Record(0, 1, 2, "ab12", {"cue": make_analysis(Graph(1, 2), **on)})
    timeline = Timeline.of([record])
    assert sorted(timeline.heads.columns) == sorted(names(HEADS))
    assert sorted(timeline.counts.columns) == sorted(names(COUNTS))


def test_the_tables_of_the_documents_are_made_from_the_registry() -> None:
    text = (REPO / "docs" / "timeline.md").read_text()
    assert documented(text) == text
    assert documented(text.replace("| `verdict` |", "| `word` |")) == text


def test_no_column_is_named_twice_and_each_says_something() -> None:
    for columns in (HEADS, COUNTS):
        assert len(set(names(columns))) == len(columns)
        assert all(one.sentence for one in columns)


def test_every_flag_of_a_column_is_one_that_somebody_reads() -> None:
    flags = [item.name for item in fields(Column) if item.type == "bool"]
    assert flags == ["logged", "carried", "in_table", "in_page"]
    assert set(dashboard.SCALARS) == set(names(COUNTS, "logged"))
    assert set(dashboard.TABLE) == set(names(HEADS, "in_table"))
