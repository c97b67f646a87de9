"""The states of nodes: a partition, blind to the future, changed only by tested changes."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tests.builders.analyses import make_analysis
from tests.builders.timelines import ON, records_by, records_from, records_named
from tracking.ledger.record import Record
from tracking.model.graph import Graph
from tracking.timeline.activity import Thresholds
from tracking.timeline.shares import Shares
from tracking.timeline.states import (
    ACTIVE,
    EMERGENT,
    STATES,
    History,
    coded,
    cohorts,
    fates,
    states,
)

GRAPH = Graph(1, 2)
histories = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=7))


def history_of(records: list[Record], **thresholds: float) -> History:
    shares = [Shares.of(record.analyses["cue"]) for record in records]
    return History.of(shares, Thresholds(**thresholds))


def of_head(path: Any, noise: float = 0.01, **more: Any) -> History:
    """Of one head with these shares; `noise` over pairs is the same at all checkpoints."""
    return history_of(records_named(Graph(1, 1), {"L0H0": path}, noise, **more))


def words(history: History, node: int = 0) -> list[str]:
    return states(history.active, history.unsettled)[:, node].tolist()


def word_by_word(active: str) -> np.ndarray:
    """bool [step, 1] from `..##.`."""
    return np.array([[letter == "#"] for letter in active])


# By boolean history


@pytest.mark.parametrize(
    ("active", "wanted"),
    [
        ("....", "inactive inactive inactive inactive"),
        ("####", "base retained retained retained"),
        ("#.#.", "base faded retained faded"),
        ("#...", "base faded faded faded"),
        ("..##", "inactive inactive new surviving"),
        (".#..", "inactive new pruned pruned"),
        (".##.##", "inactive new surviving pruned revived emergent"),
        (".#.#.#", "inactive new pruned revived pruned revived"),
        (".#.###.#", "inactive new pruned revived emergent emergent pruned revived"),
        ("#", "base"),
        (".", "inactive"),
    ],
)
def test_a_history_has_the_states_of_the_design(active: str, wanted: str) -> None:
    assert states(word_by_word(active))[:, 0].tolist() == wanted.split()
    assert words(history_of(records_from([active]))) == wanted.split()


@given(histories)
def test_states_partition_nodes_by_what_is_active_and_was_at_the_start(active: np.ndarray) -> None:
    words = states(active)
    assert words.shape == active.shape and set(words.ravel()) <= set(STATES)
    base = np.broadcast_to(active[0], active.shape)
    assert np.array_equal(np.isin(words, ACTIVE), active)
    assert np.array_equal(np.isin(words, ["base", "retained", "faded"]), base)
    assert np.array_equal(np.isin(words, EMERGENT), active & ~base)
    assert set(words[0]) <= {"base", "inactive"} and "base" not in words[1:]


@given(histories)
def test_states_are_what_their_definitions_say(active: np.ndarray) -> None:
    """Read off the whole past of each node, instead of step by step."""
    words = states(active)
    for step in range(1, len(active)):
        for node in np.flatnonzero(~active[0]):
            past, now = active[:step, node].tolist(), bool(active[step, node])
            if True not in past:
                wanted = "new" if now else "inactive"
            elif not now:
                wanted = "pruned"
            elif all(past[past.index(True) :]):
                wanted = "surviving"
            else:
                wanted = "emergent" if past[-1] else "revived"
            assert words[step, node] == wanted


@given(histories, st.data())
def test_words_and_cohorts_are_blind_to_later_checkpoints(
    active: np.ndarray, data: st.DataObject
) -> None:
    upto = data.draw(st.integers(1, len(active)))
    steps = list(range(0, 10 * len(active), 10))
    assert np.array_equal(states(active)[:upto], states(active[:upto]))
    early = cohorts(active[:upto], steps[:upto])
    assert np.array_equal(cohorts(active, steps)[:upto], early, equal_nan=True)


@given(arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=5)))
def test_codes_of_many_at_once_are_the_states_of_each(active: np.ndarray) -> None:
    words = np.array(STATES)[coded(active)]
    for one in range(active.shape[1]):
        assert np.array_equal(words[:, one], states(active[:, one]))


@given(histories)
def test_a_cohort_is_the_step_at_which_a_node_was_new(active: np.ndarray) -> None:
    steps = [7 * index for index in range(len(active))]
    since, words = cohorts(active, steps), states(active)
    for node in range(active.shape[1]):
        new = np.flatnonzero(words[:, node] == "new")
        first = new[0] if len(new) else len(active)
        assert len(new) <= 1 and np.isnan(since[:first, node]).all()
        assert (since[first:, node] == (steps[first] if len(new) else None)).all()


@pytest.mark.parametrize(
    ("active", "wanted"),
    [("....", ""), ("#..#", ""), ("..##", "survivor"), (".#.#", "survivor"), (".##.", "transient")],
)
def test_a_fate_is_what_the_last_checkpoint_says_of_what_emerged(active: str, wanted: str) -> None:
    assert fates(word_by_word(active)).tolist() == [wanted]


# By tested changes


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_a_later_record_changes_no_earlier_history(seed: int, upto: int) -> None:
    generator = np.random.default_rng(seed)
    shares = generator.choice([0, 0.03, 0.05, 0.08, 0.3, -0.2], (5, 3))
    noise = generator.choice([0.0, 0.02, 0.2])
    records = records_by(GRAPH, shares, noise)
    whole, part = history_of(records), history_of(records[:upto])
    for name in ("active", "verdicts", "drifted", "growth", "change"):
        assert np.array_equal(getattr(whole, name)[:upto], getattr(part, name))
    assert np.array_equal(whole.unsettled, part.unsettled)


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_a_share_that_stays_changes_no_state_whatever_its_interval_does(seed: int) -> None:
    """The mean over pairs stays, the spread over pairs comes and goes."""
    generator = np.random.default_rng(seed)
    share = generator.choice([0.0, 0.04, 0.06, 0.3, -0.1], 3)
    analyses = [
        records_by(GRAPH, [share], noise)[0].analyses["cue"]
        for noise in (0.0, 0.3, 0.0, 1.0, 0.001)
    ]
    shares = [Shares.of(one) for one in analyses]
    history = History.of(shares, Thresholds())
    assert (history.active == history.active[0]).all()
    assert not history.drifted.any() and not history.lasting.any()


def test_an_undecided_node_neither_emerges_nor_fades() -> None:
    history = of_head([0.05, 0.6, 0.6, 0.0], noise=0.1)
    assert history.unsettled[0]
    assert words(history) == ["undecided"] * 4 and not history.active[:, 0].any()
    assert history.drifted[1, 0]


@pytest.mark.parametrize(("start", "end"), [(0.03, 0.07), (0.07, 0.03), (0.3, 0.26)])
def test_a_change_below_the_threshold_changes_nothing(start: float, end: float) -> None:
    history = of_head([start, end, start, end], noise=0.001)
    assert (history.active == history.active[0]).all() and not history.drifted.any()
    assert of_head([start, end], 0.001).verdicts[0, 0] in ("active", "inactive")


def test_a_jump_at_a_single_checkpoint_is_new_there_and_surviving_after() -> None:
    assert words(of_head([0, 0, 0, 0.3, 0.3, 0.3])) == [
        "inactive", "inactive", "inactive", "new", "surviving", "surviving",
    ]  # fmt: skip


def test_a_slow_climb_is_new_where_it_has_changed_by_the_threshold() -> None:
    path = [0.04, 0.06, 0.08, 0.1, 0.12]
    assert words(of_head(path, 0.001)) == [
        "inactive", "inactive", "inactive", "new", "surviving",
    ]  # fmt: skip


def test_a_node_that_works_against_the_behaviour_has_states_too() -> None:
    assert words(of_head([0, -0.3, 0, 0.3]))[1:] == ["new", "pruned", "revived"]
    assert words(of_head([-0.3, 0.3, 0.0])) == ["base", "retained", "faded"]


def test_one_direction_is_enough_to_be_active_and_both_must_go() -> None:
    graph = Graph(1, 1)
    parts = [(0.4, 0.0), (0.4, 0.3), (0.0, 0.3), (0.0, 0.0)]
    rows = [[records_by(graph, [[one, 0.0]])[0].analyses["cue"].nodes.corrupt for one in pair]
            for pair in parts]  # fmt: skip
    analyses = [make_analysis(graph, corrupt=one, restore=other) for one, other in rows]
    records = [Record(step, 1, 1, "ab", {"cue": one}) for step, one in enumerate(analyses)]
    assert words(history_of(records)) == ["base", "retained", "retained", "faded"]


def test_where_the_behaviour_is_absent_no_state_changes() -> None:
    records = records_named(Graph(1, 1), {"L0H0": [0.4, 0.0, 0.0]})
    absent = make_analysis(Graph(1, 1), clean=records[0].analyses["cue"].behaviour.corrupted)
    gone = Record(10, 1, 1, "ab12", {"cue": absent})
    history = history_of([records[0], gone, records[2]])
    assert words(history) == ["base", "retained", "faded"]
    assert history.verdicts[1].tolist() == ["undecided"] * 2


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_a_gain_on_all_logits_changes_nothing(scale: float) -> None:
    graph, generator = Graph(2, 2), np.random.default_rng(0)
    shares = np.where(generator.random((4, 6)) < 0.5, ON, 0) + 0.01
    records, grown = records_by(graph, shares, 0.1), []
    for step, record in enumerate(records):
        part = record.analyses["cue"]
        by = scale**step
        grown.append(
            make_analysis(
                graph,
                clean=part.behaviour.clean * by,
                corrupted=part.behaviour.corrupted * by,
                corrupt=part.nodes.corrupt * by,
                restore=part.nodes.restore * by,
            )
        )
    one = History.of([Shares.of(r.analyses["cue"]) for r in records], Thresholds())
    other = History.of([Shares.of(a) for a in grown], Thresholds())
    assert np.array_equal(one.active, other.active) and one.active.any()
    assert np.allclose(one.change, other.change, atol=1e-5)


def test_records_of_more_resamples_are_paired_with_those_of_fewer() -> None:
    first, second = records_named(Graph(1, 1), {"L0H0": [0.0, 0.3]}, noise=0.05)
    more = make_analysis(
        Graph(1, 1),
        corrupt=second.analyses["cue"].nodes.corrupt,
        restore=second.analyses["cue"].nodes.restore,
        entries=second.analyses["cue"].stability.entries.repeat(4, 1),
    )
    assert words(history_of([first, Record(10, 1, 1, "ab12", {"cue": more})])) == [
        "inactive", "new",
    ]  # fmt: skip


def test_drift_is_of_nodes_that_stay_in_their_state() -> None:
    graph = Graph(1, 3)
    paths = {"L0H0": [0.4, 0.5], "L0H1": [0.4, 0.42], "L0H2": [0.0, 0.4], "M0": [0.4, 0.0]}
    history = history_of(records_named(graph, paths))
    assert history.drifted[1].tolist() == [True, False, False, False]
    assert history.growth[1] == pytest.approx([0.1, 0, 0, 0], abs=1e-4)


@pytest.mark.parametrize(
    ("path", "growth"),
    [([0.4, 0.5], 0.1), ([0.5, 0.4], -0.1), ([-0.4, -0.5], 0.1), ([-0.5, -0.4], -0.1),
     ([-0.4, 0.4], 0.0)],
)  # fmt: skip
def test_growth_is_of_the_size_of_a_share_on_one_side(path: list[float], growth: float) -> None:
    assert of_head(path).growth[1, 0] == pytest.approx(growth, abs=1e-4)


def test_growth_is_of_the_direction_that_changed() -> None:
    graph = Graph(1, 1)
    paths = [0.5, 0.49], [0.1, 0.4]
    runs = [records_named(graph, {"L0H0": path}) for path in paths]
    less, more = ([one.analyses["cue"].nodes.corrupt for one in run] for run in runs)
    analyses = [make_analysis(graph, corrupt=a, restore=b) for a, b in zip(less, more, strict=True)]
    records = [Record(step, 1, 1, "ab", {"cue": one}) for step, one in enumerate(analyses)]
    history = history_of(records)
    assert history.growth[1, 0] == pytest.approx(0.3, abs=1e-4)


# Lasting


def test_fluctuation_under_resampling_says_nothing() -> None:
    """The same pairs again and again, with effects that jitter pair by pair."""
    graph, generator = Graph(4, 4), np.random.default_rng(0)
    level = np.where(generator.random(20) < 0.3, 0.3, 0.0)
    for pairs_noise in (0.0, 0.05, 0.2):
        analyses = []
        for _ in range(10):
            effects = 4 * (level + pairs_noise * generator.standard_normal((16, 20)))
            of_pairs = torch.as_tensor(effects).float()
            analyses.append(make_analysis(graph, corrupt=of_pairs, restore=of_pairs))
        history = History.of([Shares.of(one) for one in analyses], Thresholds())
        assert (history.active == history.active[0]).all()
        assert not history.drifted.any() and not history.lasting.any()


def test_a_behaviour_that_comes_at_last_makes_nothing_last() -> None:
    """While it is absent all shares are 0, which is no fluctuation to be beyond."""
    graph = Graph(1, 1)
    absent = make_analysis(graph, clean=make_analysis(graph).behaviour.corrupted)
    there = records_named(graph, {"L0H0": [0.3]})[0].analyses["cue"]
    shares = [Shares.of(one) for one in [absent] * 9 + [there]]
    history = History.of(shares, Thresholds())
    assert words(history)[-1] == "new" and not history.lasting.any()


def test_a_jump_that_stays_lasts_and_fewer_than_6_checkpoints_cannot_tell() -> None:
    quiet = 0.002 * np.random.default_rng(0).standard_normal(30)
    path = (np.arange(30) >= 15) * 0.4 + quiet
    assert of_head(path).lasting.tolist() == [True, False]
    assert not of_head(path[13:18]).lasting.any()
