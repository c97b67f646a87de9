"""The registry of columns is what the timeline has and what is logged."""

from dataclasses import fields

from tests.builders.timelines import records_from
from tracking.timeline.columns import COUNTS, NODES, Column, documented, markdown, names
from tracking.timeline.timeline import Timeline


def test_a_timeline_has_just_the_columns_of_the_registry() -> None:
    timeline = Timeline.of(records_from(["#.", ".#"]))
    assert list(timeline.nodes.columns) == list(names(NODES))
    assert sorted(timeline.counts.columns) == sorted(names(COUNTS))


def test_a_document_s_tables_are_made_anew_and_its_text_is_kept() -> None:
    table = "| column | unit |\n|---|---|\n| `gone` | |\n"
    old = f"Intro\n\n{table}\nBetween\n\n{table}\nEnd\n"
    new = documented(old)
    assert new == f"Intro\n\n{markdown(NODES)}\n\nBetween\n\n{markdown(COUNTS)}\n\nEnd\n"
    assert documented(new) == new


def test_no_column_is_named_twice_and_each_says_something() -> None:
    for columns in (NODES, COUNTS):
        assert len(set(names(columns))) == len(columns)
        assert all(one.sentence for one in columns)


def test_flags_belong_to_the_table_that_reads_them() -> None:
    flags = [item.name for item in fields(Column) if item.type == "bool"]
    assert flags == ["logged", "carried", "in_table", "in_page"]
    for flag in ("logged", "carried"):
        assert not names(NODES, flag) and names(COUNTS, flag)
    for flag in ("in_table", "in_page"):
        assert names(NODES, flag) and not names(COUNTS, flag)
