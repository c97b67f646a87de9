"""A step's row counts what its nodes are, and stands beside its nulls."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from tests.builders.analyses import make_analysis
from tests.builders.timelines import ON, records_by, records_of
from tracking.ledger.record import Record
from tracking.model.graph import Graph
from tracking.stability.sets import packed, unsure
from tracking.stability.turnover import turnover
from tracking.timeline.counts import COUNTED
from tracking.timeline.states import EMERGENT
from tracking.timeline.timeline import Timeline

GRAPH = Graph(2, 2)
histories = arrays(bool, st.integers(1, 5).map(lambda steps: (steps, 6)))


def counted(records: list[Record]) -> list[dict[str, Any]]:
    return Timeline.of(records).counts.to_dict("records")  # type: ignore[return-value]


@settings(max_examples=20)
@given(histories)
def test_counts_are_those_of_the_rows_heads_and_mlps_apart(active: np.ndarray) -> None:
    timeline = Timeline.of(records_by(GRAPH, ON * active))
    for row in timeline.counts.to_dict("records"):
        nodes = timeline.at(row["step"], "cue")
        for kind, prefix in (("head", ""), ("mlp", "mlps_")):
            words = nodes[nodes["kind"] == kind]["state"]
            for state in COUNTED:
                assert row[f"{prefix}{state}"] == (words == state).sum()
            assert row[f"{prefix}emergent"] == words.isin(EMERGENT).sum()
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


def of_edges(inside: Tensor) -> dict[str, Any]:
    """What a record keeps of the circuits [resample, source, target]."""
    membership = inside.float().mean(0)
    return {"edge_membership": membership, "edge_draws": packed(inside)[:, unsure(membership)]}


def test_turnover_of_heads_and_edges_is_that_of_every_resamples_circuits() -> None:
    generator, edges = torch.Generator().manual_seed(0), GRAPH.edge_mask
    entries = torch.randint(1, 20, (2, 50, 6), generator=generator, dtype=torch.int32)
    circuits = (torch.rand(2, 50, *edges.shape, generator=generator) < 0.3) & edges
    circuits[:, :, 0], circuits[:, :, 1, -1] = False, True  # edges in no resample and in all
    records = records_of(
        GRAPH,
        [make_analysis(GRAPH, entries=drawn, **of_edges(inside))
         for drawn, inside in zip(entries, circuits, strict=True)],
    )  # fmt: skip
    before, now = counted(records)
    heads = entries[..., GRAPH.node_heads] <= 10
    for prefix, members in (("", heads), ("edge_", circuits.flatten(2))):
        wanted = turnover(members[1], members[0])
        assert {name: now[f"{prefix}{name}"] for name in wanted} == pytest.approx(wanted)
        assert before[f"{prefix}null"] == pytest.approx(turnover(members[0], None)["null"])
        assert np.isnan(before[f"{prefix}turnover"])


def test_circuits_of_other_resamples_or_another_size_are_not_compared() -> None:
    more = torch.ones(80, 6, dtype=torch.int32)
    changes: list[dict[str, Any]] = [{"entries": more}, {"size": 20}, {"edge_draws": None}]
    for change in changes:
        analyses = [make_analysis(GRAPH), make_analysis(GRAPH, **change)]
        first, then = counted(records_of(GRAPH, analyses))
        assert np.isnan(then["edge_turnover"]) and not np.isnan(first["edge_null"])
        assert np.isnan(then["turnover"]) == ("entries" in change)


def test_wiring_is_missing_where_a_record_has_none() -> None:
    rows = counted(records_of(GRAPH, [make_analysis(GRAPH, wiring=None), make_analysis(GRAPH)]))
    assert np.isnan(rows[0]["wiring_kept"]) and rows[1]["wiring_kept"] == 1
    assert rows[1]["wiring_null_low"] == pytest.approx(0.97)
