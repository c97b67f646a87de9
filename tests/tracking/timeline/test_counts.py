"""A step's row counts what its nodes are, and stands beside its nulls."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.builders.analyses import make_analysis
from tests.builders.timelines import ON, records_by, records_of
from tracking.ledger.record import Record
from tracking.model.graph import Graph
from tracking.stability.sets import jaccard
from tracking.timeline.counts import COUNTED, half_turnover
from tracking.timeline.states import EMERGENT
from tracking.timeline.timeline import Timeline

GRAPH = Graph(2, 2)
histories = arrays(bool, st.integers(1, 5).map(lambda steps: (steps, 6)))


def counted(records: list[Record]) -> list[dict[str, Any]]:
    return Timeline.of(records).counts.to_dict("records")  # type: ignore[return-value]


@settings(deadline=None, max_examples=20)
@given(histories)
def test_counts_are_those_of_the_rows_heads_and_mlps_apart(active: np.ndarray) -> None:
    timeline = Timeline.of(records_by(GRAPH, ON * active))
    for row in timeline.counts.to_dict("records"):
        nodes = timeline.at(row["step"], "cue")
        for kind, prefix in (("head", ""), ("mlp", "mlps_")):
            said = nodes[nodes["kind"] == kind]["state"]
            for state in COUNTED:
                assert row[f"{prefix}{state}"] == (said == state).sum()
            assert row[f"{prefix}emergent"] == said.isin(EMERGENT).sum()
            now = active[row["step"] // 10][
                [("H" in name) == (kind == "head") for name in GRAPH.nodes]
            ]
            assert row[f"{prefix}active"] == now.sum()
            assert row[f"{prefix}undecided"] == 0


def test_the_behaviour_has_an_interval_and_both_units() -> None:
    clean = 2 + torch.linspace(-1, 1, 16)
    (row,) = counted(records_of(GRAPH, [make_analysis(GRAPH, clean=clean)]))
    assert row["behaviour"] == pytest.approx(4) and row["pairs"] == 16
    assert 3.5 < row["behaviour_low"] < 4 < row["behaviour_high"] < 4.5
    assert row["probability"] == pytest.approx(0.8)
    assert (row["clean"], row["corrupted"]) == pytest.approx((0.9, 0.1))


def test_all_active_nodes_together_are_shares_of_the_behaviour() -> None:
    together = torch.tensor([True] + [False] * 5)
    analyses = [make_analysis(GRAPH, together=together), make_analysis(GRAPH)]
    first, second = counted(records_of(GRAPH, analyses))
    assert (first["together_corrupt"], first["together_restore"]) == pytest.approx((3.5 / 4, 3 / 4))
    assert np.isnan(second["together_corrupt"])


def test_turnover_of_heads_is_over_the_same_resamples_and_of_edges_over_all_pairs() -> None:
    beyond = int(GRAPH.edge_mask.sum()) + 1
    first = torch.full((50, 6), beyond, dtype=torch.int32)
    first[:, 0] = 5
    second = first.clone()
    second[:25, 1] = 10  # the size itself is within it
    second[:, 2] = 1  # M0 is no head
    edges = torch.full(GRAPH.edge_mask.shape, beyond, dtype=torch.int32)
    one, other = edges.clone(), edges.clone()
    one[0, :4], other[0, 2:6] = 1, 1
    records = records_of(
        GRAPH,
        [make_analysis(GRAPH, entries=first, edge_entry=one),
         make_analysis(GRAPH, entries=second, edge_entry=other)],
    )  # fmt: skip
    before, now = counted(records)
    assert np.isnan(before["turnover"]) and np.isnan(before["edge_turnover"])
    assert now["turnover"] == pytest.approx(0.25)
    assert (now["turnover_low"], now["turnover_high"]) == pytest.approx((0, 0.5))
    assert now["edge_turnover"] == pytest.approx(1 - 2 / 6)
    assert now["edge_null"] == pytest.approx(0.1)


def test_other_resamples_have_no_turnover_of_heads() -> None:
    more = torch.ones(80, 6, dtype=torch.int32)
    rows = counted(records_of(GRAPH, [make_analysis(GRAPH), make_analysis(GRAPH, entries=more)]))
    assert np.isnan(rows[1]["turnover"]) and rows[1]["edge_turnover"] == 0


def test_the_null_is_the_turnover_between_halves_of_the_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    halves = torch.randint(0, 20, (20, 2, 6), generator=generator, dtype=torch.int32)
    analysis = make_analysis(GRAPH, half_entries=halves)
    heads = GRAPH.node_heads
    null = half_turnover(analysis, heads)
    inside = halves[..., heads] <= 10
    assert null.tolist() == pytest.approx([1 - float(jaccard(*split)) for split in inside])
    (row,) = counted(records_of(GRAPH, [analysis]))
    assert row["null"] == pytest.approx(float(null.mean()))
    assert row["null_high"] == pytest.approx(float(null.quantile(0.975)))


def test_wiring_is_missing_where_a_record_has_none() -> None:
    rows = counted(records_of(GRAPH, [make_analysis(GRAPH, wiring=None), make_analysis(GRAPH)]))
    assert np.isnan(rows[0]["wiring_kept"]) and rows[1]["wiring_kept"] == 1
    assert rows[1]["wiring_null_low"] == pytest.approx(0.97)
