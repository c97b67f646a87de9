"""How long heads last, with intervals; and that all but a fate is blind to the future."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tests.builders.analyses import make_analysis
from tracking.ledger.record import Analysis, Record
from tracking.model.graph import Graph
from tracking.nodes.role_words import SCORES
from tracking.stability.bootstrap import resamples
from tracking.timeline.activity import Thresholds, verdict
from tracking.timeline.counts import BOUNDED, bounds, drawn, turned_over
from tracking.timeline.states import ACTIVE, EMERGENT, STATES, coded, fates, states
from tracking.timeline.survival import COHORTS, CURVE, cohort_table, survival
from tracking.timeline.timeline import Timeline

ENDS = [(f"{name}_low", f"{name}_high") for name in BOUNDED]
histories = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=7))


def run(active: np.ndarray, **more: Any) -> list[Record]:
    """The records of a run of one layer in which just these heads [step, head] are active."""
    return [
        record(10 * index, torch.tensor(row).expand(20, -1), **more)
        for index, row in enumerate(active)
    ]


def record(step: int, in_circuit: torch.Tensor, pairs: int = 8, **more: Any) -> Record:
    heads = in_circuit.shape[1]
    plain: dict[str, Any] = {"in_circuit": in_circuit, "effect": torch.full((pairs, heads), 0.5)}
    analysis = make_analysis(Graph(1, heads), **{**plain, **more})
    return Record(step, 1, heads, "ab12", {"pairs": analysis})


@st.composite
def noisy(draw: st.DrawFn) -> list[Record]:
    """Runs whose resamples disagree, some of whose behaviours are absent, unconverged or weak."""
    steps, heads = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    graph, records = Graph(1, heads), []
    for step in range(steps):
        count, pairs = draw(st.sampled_from([(9, 6), (9, 6), (9, 6), (5, 6), (9, 4)]))
        share = torch.rand(heads, generator=generator) * 1.4 - 0.2
        more = {
            "effect": torch.randn(pairs, heads, generator=generator) * 0.05,
            "circuit": graph.edge_mask
            & (torch.rand(graph.edge_mask.shape, generator=generator) < 0.5),
            "edge_scores": graph.edge_mask
            * torch.randn(graph.edge_mask.shape, generator=generator),
            "roles": torch.rand(len(SCORES), heads, generator=generator),
            "weight_change": torch.rand(5, heads, generator=generator),
            "difference_low": draw(st.sampled_from([0.4, 0.4, 0.0])),
            "gap": draw(st.sampled_from([0.01, 0.01, 0.5])),
            "pairs_needed": draw(st.sampled_from([None, 64.0])),
        }
        inside = torch.rand(count, heads, generator=generator) < share
        records.append(record(10 * step, inside, **more))
    return records


def analyses(records: list[Record]) -> list[Analysis]:
    return [record.analyses["pairs"] for record in records]


# States


@given(histories)
def test_states_partition_the_heads_at_every_step(active: np.ndarray) -> None:
    found = states(active)
    parts = np.array([found == state for state in STATES])
    assert (parts.sum(0) == 1).all()
    for words, wanted in ((ACTIVE, active), (EMERGENT, active & ~active[0])):
        assert np.array_equal(parts[[STATES.index(word) for word in words]].any(0), wanted)


@given(histories, st.data())
def test_a_later_checkpoint_changes_no_earlier_state(
    active: np.ndarray, data: st.DataObject
) -> None:
    upto = data.draw(st.integers(1, len(active)))
    assert np.array_equal(states(active)[:upto], states(active[:upto]))


@settings(deadline=None, max_examples=30)
@given(noisy(), st.data())
def test_a_later_record_changes_nothing_earlier_save_fates(
    records: list[Record], data: st.DataObject
) -> None:
    upto = data.draw(st.integers(1, len(records)))
    whole, part = Timeline.of(records), Timeline.of(records[:upto])
    assert list(whole.heads) == list(part.heads) and "fate" in whole.heads
    rows = whole.heads[whole.heads["step"] < 10 * upto].drop(columns="fate")
    pd.testing.assert_frame_equal(rows, part.heads.drop(columns="fate"))
    pd.testing.assert_frame_equal(whole.counts[:upto], part.counts)


@given(arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=5)))
def test_codes_of_many_resamples_are_the_states_of_each(active: np.ndarray) -> None:
    found = np.array(STATES)[coded(active)]
    for one in range(active.shape[1]):
        assert np.array_equal(found[:, one], states(active[:, one]))


@pytest.mark.parametrize(
    ("history", "wanted"),
    [
        ("....", ""),
        ("####", ""),
        ("#..#", ""),
        ("..##", "survivor"),
        (".#.#", "survivor"),  # revived, and there at the end
        ("...#", "survivor"),
        (".##.", "transient"),
        ("#", ""),
    ],
)
def test_a_fate_is_what_the_last_checkpoint_says_of_a_head_that_emerged(
    history: str, wanted: str
) -> None:
    active = np.array([[letter == "#"] for letter in history])
    assert fates(active).tolist() == [wanted]
    assert Timeline.of(run(active)).heads["fate"].tolist() == [wanted] * len(history)


# Intervals


@settings(deadline=None, max_examples=30)
@given(noisy())
def test_bounds_are_percentiles_of_each_resample_s_own_counts(records: list[Record]) -> None:
    thresholds, shapes = Thresholds(), []
    found = bounds(analyses(records), thresholds)
    active: list[list[list[bool]]] = []  # [step][resample][head]
    for one in analyses(records):
        weights = resamples(len(one.stability.in_circuit), len(one.heads.effect))
        active.append(
            [
                [
                    bool(one.stability.in_circuit[r, head])
                    and abs(float(weights[r] @ one.heads.effect[:, head])) >= thresholds.effect
                    and verdict(one, thresholds) != "absent"
                    for head in range(one.stability.in_circuit.shape[1])
                ]
                for r in range(len(weights))
            ]
        )
        shapes.append(weights.shape)
        if shapes[-1] != shapes[0]:
            break
    same = len(shapes) - (shapes[-1] != shapes[0])
    each = [states(np.array([step[r] for step in active[:same]])) for r in range(shapes[0][0])]
    for name, wanted in BOUNDED.items():
        numbers = np.array([np.isin(one, wanted).sum(1) for one in each])
        for end, share in (("low", 2.5), ("high", 97.5)):
            column = found[f"{name}_{end}"].to_numpy()
            assert column[:same] == pytest.approx(np.percentile(numbers, share, axis=0))
            assert np.isnan(column[same:]).all()


@settings(deadline=None, max_examples=30)
@given(noisy())
def test_intervals_contain_nothing_impossible(records: list[Record]) -> None:
    counts = Timeline.of(records).counts
    heads = records[0].n_heads
    for low, high in ENDS:
        known = counts[[low, high]].dropna()
        assert len(known) >= 1
        assert (known[low] >= 0).all()
        assert (known[low] <= known[high]).all()
        assert (known[high] <= heads).all()
    assert counts[["new_high", "pruned_high"]].iloc[0].tolist() == [0, 0]


@settings(deadline=None, max_examples=30)
@given(histories)
def test_intervals_collapse_on_the_counts_when_all_resamples_are_equal(active: np.ndarray) -> None:
    counts = Timeline.of(run(active)).counts
    for name, ends in zip(BOUNDED, ENDS, strict=True):
        for end in ends:
            assert counts[end].tolist() == counts[name].tolist()


def test_intervals_stop_where_resamples_are_others() -> None:
    on = torch.ones(20, 2, dtype=torch.bool)
    records = [record(0, on), record(10, on), record(20, on[:10]), record(30, on)]
    counts = Timeline.of(records).counts
    assert counts["active_low"].isna().tolist() == [False, False, True, True]
    assert counts["active"].tolist() == [2, 2, 2, 2]


def test_no_resample_has_active_heads_where_the_behaviour_is_absent() -> None:
    on = torch.ones(20, 2, dtype=torch.bool)
    absent = record(0, on, difference_low=0.0).analyses["pairs"]
    assert not drawn(absent, Thresholds()).any()
    assert drawn(record(0, on).analyses["pairs"], Thresholds()).all()


# Turnover


def test_turnover_of_what_converged_takes_both_checkpoints() -> None:
    on, off = torch.ones(20, 2, dtype=torch.bool), torch.zeros(20, 2, dtype=torch.bool)
    gaps = [0.01, 0.01, 0.2, 0.01, 0.05]
    rows = [on, off, on, off, on]
    records = [
        record(10 * index, row, gap=gap)
        for index, (row, gap) in enumerate(zip(rows, gaps, strict=True))
    ]
    counts = Timeline.of(records).counts
    nan = np.nan
    assert counts["turnover"].to_numpy() == pytest.approx([nan, 1, 1, 1, 1], nan_ok=True)
    wanted = [nan, 1, nan, nan, 1]
    assert counts["turnover_converged"].to_numpy() == pytest.approx(wanted, nan_ok=True)


def test_turnover_of_edges_and_mlps_is_what_a_hand_counts() -> None:
    graph = Graph(2, 1)

    def at(step: int, *edges: str) -> Record:
        circuit = torch.zeros_like(graph.edge_mask)
        for edge in edges:
            circuit[graph.index(edge)] = True
        return Record(step, 2, 1, "ab12", {"pairs": make_analysis(graph, circuit=circuit)})

    counts = Timeline.of(
        [
            at(0, "embed->M0", "M0->logits"),
            at(10, "embed->M0", "M0->M1", "M1->logits"),  # one edge of four kept; M1 came to M0
            at(20, "embed->M1", "M1->logits"),  # into M0 and out of it nothing: one of four kept
            at(30, "embed->L0H0.q", "L0H0->logits"),  # no MLP writes any more
            at(40, "embed->L0H0.q", "L0H0->M1", "L0H0->logits"),  # M1 reads but does not write
            at(50),
            at(60),
        ]
    ).counts
    edges, mlps = counts["edge_turnover"].tolist(), counts["mlp_turnover"].tolist()
    assert np.isnan([edges[0], mlps[0]]).all()
    assert edges[1:] == pytest.approx([3 / 4, 3 / 4, 1, 1 / 3, 1, 0])
    assert mlps[1:] == pytest.approx([1 / 2, 1 / 2, 1, 0, 0, 0])


@given(arrays(bool, 6), arrays(bool, 6))
def test_turnover_is_a_share_that_does_not_depend_on_the_order(
    first: np.ndarray, second: np.ndarray
) -> None:
    share = turned_over(first, second)
    assert 0 <= share <= 1
    assert share == turned_over(second, first)
    assert (share == 0) == np.array_equal(first, second)


# Columns


def test_rows_say_what_a_head_does_and_how_far_it_moved() -> None:
    first, second = torch.zeros(len(SCORES), 2), torch.zeros(len(SCORES), 2)
    first[SCORES.index("induction"), 0] = 0.9
    second[SCORES.index("previous_token"), 0] = 0.75
    moved = torch.arange(10.0).view(5, 2)
    unknown = torch.full((5, 2), torch.nan)
    on = torch.ones(20, 2, dtype=torch.bool)
    heads = Timeline.of(
        [
            record(0, on, roles=first, weight_change=unknown),
            record(10, on, roles=second, weight_change=moved),
        ]
    ).heads
    assert heads["role"].tolist() == ["induction", "-", "previous token", "-"]
    assert heads["role_induction"].tolist() == pytest.approx([0.9, 0, 0, 0])
    assert heads["role_previous_token"].tolist() == [0, 0, 0.75, 0]
    columns = [
        "weight_change_q",
        "weight_change_k",
        "weight_change_v",
        "weight_change_o",
        "weight_change",
    ]
    assert heads[columns][:2].isna().all(axis=None)
    assert heads[columns][2:].to_numpy().T.tolist() == moved.tolist()


# Cohorts and survival

LIVES = [  # by head, at steps 0, 10, ...
    "#.####",  # a base head: in no cohort
    ".#####",  # 10: there to the end, at risk for 40
    ".##.##",  # 10: pruned after 20, though revived
    ".#....",  # 10: pruned after 10
    "..##..",  # 20: pruned after 20
    "...###",  # 30: there to the end, at risk for 20
    ".....#",  # 50: at risk for 0
    "......",
]


def lives(rows: list[str]) -> pd.DataFrame:
    active = np.array([[letter == "#" for letter in row] for row in rows]).T
    return Timeline.of(run(active)).heads


def test_a_cohort_s_rows_say_how_many_of_it_are_left() -> None:
    wanted = [
        (10, 10, 3, 3), (10, 20, 2, 3), (10, 30, 1, 3), (10, 40, 2, 3), (10, 50, 2, 3),
        (20, 20, 1, 1), (20, 30, 1, 1), (20, 40, 0, 1), (20, 50, 0, 1),
        (30, 30, 1, 1), (30, 40, 1, 1), (30, 50, 1, 1),
        (50, 50, 1, 1),
    ]  # fmt: skip
    table = cohort_table(lives(LIVES), "pairs")
    assert list(table) == list(COHORTS)
    assert list(table.itertuples(index=False, name=None)) == wanted


def test_the_survival_curve_is_what_a_hand_computes() -> None:
    """Of six heads one ends at 0 unpruned; one of five is pruned at 10, two of four at 20, where
    another one's time ends; the last one's at 40."""
    curve = survival(lives(LIVES), "pairs")
    assert list(curve) == list(CURVE)
    assert curve["time"].tolist() == [0, 10, 20, 40]
    assert curve["at_risk"].tolist() == [6, 5, 4, 1]
    assert curve["survival"].tolist() == pytest.approx([1, 4 / 5, 2 / 5, 2 / 5])
    # exp(-exp(log(-log S) -+ 1.96 s)), s^2 = sum of d / (n (n - d)) / (log S)^2
    greenwood = np.array([1 / 20, 1 / 20 + 2 / 8])
    logs = np.log([4 / 5, 2 / 5])
    half = 1.959964 * np.sqrt(greenwood) / np.abs(logs)
    for name, sign in (("low", 1), ("high", -1)):
        wanted = np.exp(-np.exp(np.log(-logs) + sign * half))
        assert curve[name].tolist()[1:3] == pytest.approx(wanted, rel=1e-5)
    assert curve[["low", "high"]].iloc[0].isna().all()


def test_heads_that_all_last_survive_and_have_no_interval() -> None:
    curve = survival(lives([".###", "..##"]), "pairs")
    assert curve["time"].tolist() == [0, 10, 20]
    assert curve["survival"].tolist() == [1, 1, 1]
    assert curve["at_risk"].tolist() == [2, 2, 1]
    assert curve[["low", "high"]].isna().all(axis=None)


@pytest.mark.parametrize("rows", [["...", "..."], ["###", "#.#"], ["#", "."]])
def test_where_nothing_emerged_there_is_no_row(rows: list[str]) -> None:
    curve, table = survival(lives(rows), "pairs"), cohort_table(lives(rows), "pairs")
    assert curve.empty and list(curve) == list(CURVE)
    assert table.empty and list(table) == list(COHORTS)


@settings(deadline=None, max_examples=30)
@given(histories)
def test_the_curve_is_the_product_limit_and_the_cohorts_add_up(active: np.ndarray) -> None:
    timeline = Timeline.of(run(active))
    curve, table = survival(timeline.heads, "pairs"), cohort_table(timeline.heads, "pairs")
    ages: list[tuple[int, bool]] = []  # of each emergent head: steps at risk, pruned after them
    for row in active.T[~active[0]].tolist():
        if True in row:
            since = row[row.index(True) :]
            pruned = False in since
            ages.append((10 * (since.index(False) if pruned else len(since) - 1), pruned))
    share = 1.0
    for time, found, number in curve[["time", "survival", "at_risk"]].to_numpy().tolist():
        at_risk = sum(age >= time for age, _ in ages)
        share *= 1 - sum(pruned and age == time for age, pruned in ages) / at_risk
        assert found == pytest.approx(share)
        assert number == at_risk
    known = curve.dropna()
    assert ((known["low"] >= 0) & (known["high"] <= 1)).all()
    assert ((known["low"] <= known["survival"]) & (known["survival"] <= known["high"])).all()

    counts = timeline.counts.set_index("step")
    left = table.groupby("step")["left"].sum().reindex(counts.index, fill_value=0)
    assert left.tolist() == counts["emergent"].tolist()
    firsts = table[table["cohort"] == table["step"]]
    assert firsts["left"].tolist() == firsts["size"].tolist()
    assert firsts["size"].tolist() == [n for n in counts["new"].tolist() if n]
    assert firsts["size"].sum() == len(ages)
    assert (table["left"] <= table["size"]).all()


def test_kinds_have_lives_of_their_own_and_survive_the_disk(tmp_path: Path) -> None:
    first, second = lives(LIVES), lives(["..", ".#"]).assign(contrast="cues")
    pd.concat([first, second]).to_parquet(tmp_path / "timeline.parquet", index=False)
    both = pd.read_parquet(tmp_path / "timeline.parquet")
    for make in (survival, cohort_table):
        pd.testing.assert_frame_equal(make(both, "pairs"), make(first, "pairs"))
        pd.testing.assert_frame_equal(make(both, "cues"), make(second, "cues"))
    assert cohort_table(both, "cues").to_numpy().tolist() == [[10, 10, 1, 1]]
