"""What nodes do goes with the reward only beyond shifts in time, and by changes alone."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.builders.timelines import records_by
from tracking.model.graph import Graph
from tracking.timeline.coupling import (
    LAGS,
    MINIMUM,
    PER_NODE,
    SERIES,
    TABLE,
    Coupling,
    Hazard,
    by_node,
    change_of,
    coupling,
    coupling_note,
    pearson,
    rewards,
    shift_p,
    shifts,
    turns_of,
)
from tracking.timeline.timeline import Timeline

STEP = 10
Values = Sequence[float] | np.ndarray


def counted(reward: Values, contrast: str = "cue", **numbers: Values) -> pd.DataFrame:
    """A timeline's counts: step 0 without a reward, then a checkpoint for each; of `numbers` the
    levels."""
    steps = len(reward) + 1
    series = {name: [0, *numbers.get(name, [0] * len(reward))] for name in SERIES}
    return pd.DataFrame(
        {
            "contrast": contrast,
            "step": np.arange(steps) * STEP,
            "reward": [np.nan, *reward],
            "stage": 0,
            "reward_name": "reward",
            **series,
        }
    )


def nodes_of(contrast: str = "cue", **paths: Values | str) -> pd.DataFrame:
    """A timeline's heads from histories `.##.`, active where there is a #, from step 0 on, or from
    their shares."""
    rows = []
    for node, path in paths.items():
        levels = [float(one == "#") for one in path] if isinstance(path, str) else list(path)
        cohort = np.nan
        for index, share in enumerate(levels):
            active = share > 0.05
            if active and levels[0] <= 0.05 and np.isnan(cohort):
                cohort = index * STEP
            place = {"contrast": contrast, "step": index * STEP, "node": node, "kind": "head"}
            rows.append({**place, "active": active, "share": share, "cohort": cohort})
    return pd.DataFrame(rows).sort_values("step", kind="stable", ignore_index=True)


def at(table: pd.DataFrame, series: str) -> pd.DataFrame:
    """By lag."""
    return table[table["series"] == series].set_index("lag")


def turned(levels: np.ndarray) -> np.ndarray:
    """By the book: the sign of the second difference."""
    return np.sign(np.diff(levels, n=2))


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize(("lag", "sign"), [(-3, 1), (0, -1), (2, 1), (2, -1), (3, 1)])
def test_a_planted_lag_shows_there_with_its_sign(series: str, lag: int, sign: int) -> None:
    generator = np.random.default_rng(3)
    changes = generator.normal(size=120)
    # the change at t is what the reward's was `lag` checkpoints before
    follows = sign * np.roll(changes, lag) + 0.2 * generator.normal(size=120)
    table = coupling(counted(changes.cumsum(), "cue", **{series: follows.cumsum()}), "cue")
    planted = at(table, series)
    assert planted["correlation"].abs().idxmax() == lag
    assert np.sign(planted["correlation"][lag]) == sign
    assert planted["p"][lag] <= 2 / 118 and planted["p_corrected"][lag] <= len(LAGS) / 118
    others = table[table["series"] != series]
    assert others["correlation"].isna().all()
    assert (others[["p", "p_corrected"]] == 1).to_numpy().all()


def test_correlations_are_pearson_s_of_the_turns_that_overlap() -> None:
    generator = np.random.default_rng(0)
    reward, active = generator.normal(size=12), generator.integers(0, 9, 12).astype(float)
    table = coupling(counted(reward, active=active), "cue")
    assert list(table) == list(TABLE) and len(table) == len(SERIES) * len(LAGS)
    coupled, ours, theirs = at(table, "active"), turned(active), turned(reward)
    for lag, one, other in [
        (0, ours, theirs),
        (2, ours[2:], theirs[:-2]),
        (-3, ours[:-3], theirs[3:]),
    ]:
        assert coupled["correlation"][lag] == pytest.approx(stats.pearsonr(one, other)[0])
        assert coupled["n"][lag] == len(one)


def test_p_counts_the_shifts_that_do_as_well() -> None:
    """By brute force, at a lag and over them."""
    generator = np.random.default_rng(1)
    reward, active = generator.normal(size=10), generator.normal(size=10)
    ours, theirs = turned(active), turned(reward)
    null = np.array(
        [
            [
                abs(np.corrcoef(np.roll(ours, shift)[max(lag, 0) : 8 + min(lag, 0)],
                                theirs[max(-lag, 0) : 8 - max(lag, 0)])[0, 1])
                for lag in range(-3, 4)
            ]
            for shift in range(8)
        ]
    )  # fmt: skip
    coupled = at(coupling(counted(reward, active=active), "cue"), "active")
    assert coupled["p"].tolist() == pytest.approx((null >= null[0]).mean(0).tolist())
    corrected = (null.max(1)[:, None] >= null[0]).mean(0)
    assert coupled["p_corrected"].tolist() == pytest.approx(corrected.tolist())
    assert (coupled["p_corrected"] >= coupled["p"]).all() and coupled["p"].min() >= 1 / 8


def test_the_null_of_a_hand_case() -> None:
    assert shifts(np.array([1, 2, 3])).tolist() == [[1, 2, 3], [3, 1, 2], [2, 3, 1]]
    assert shifts(np.array([])).shape == (1, 0)
    # one peak in four: it meets the reward's own in one shift of four
    peak = np.array([0.0, 1, 0, 0])
    met = pearson(shifts(peak), peak)
    assert met.tolist() == pytest.approx([1, -1 / 3, -1 / 3, -1 / 3])
    assert shift_p(met) == 0.25
    assert shift_p(met[[1, 0, 2, 3]]) == 1
    assert shift_p(np.array([-0.5, 0.5, 0.2, np.nan])) == 0.5
    assert shift_p(np.array([np.nan, 0.5])) == 1


def test_turns_are_signs_without_trend_or_size() -> None:
    levels = pd.Series([0.0, 1, 3, 4, 4.5, 5.0])
    assert np.array_equal(turns_of(levels), [np.nan, np.nan, 1, -1, -1, 0], equal_nan=True)
    assert turns_of(1e3 * levels - 7 * levels.index).dropna().tolist() == [1, -1, -1, 0]


def test_a_change_of_rounding_is_none() -> None:
    assert change_of(pd.Series([0.3, 0.1 + 0.2, 1.3])).tolist()[1:] == [0, pytest.approx(1.0)]


@pytest.mark.parametrize("kind", ["noise", "walk", "fading", "saturating"])
def test_nodes_unrelated_to_a_saturating_reward_are_rarely_significant(kind: str) -> None:
    runs, checkpoints, corrected, q = 40, 80, [], []
    for seed in range(runs):
        generator = np.random.default_rng(seed)
        reward = (
            1 - np.exp(-np.arange(checkpoints) / 15) + 0.03 * generator.normal(size=checkpoints)
        )
        levels = 0.03 * generator.normal(size=(checkpoints + 1, 2))
        if kind == "walk":
            levels = levels.cumsum(0)
        if kind == "fading":
            levels = (levels * np.exp(-np.arange(checkpoints + 1) / 20)[:, None]).cumsum(0)
        if kind == "saturating":
            levels += 0.4 * (1 - np.exp(-np.arange(checkpoints + 1) / 30))[:, None]
        frame = counted(reward, behaviour=levels[1:, 0])
        corrected.append(at(coupling(frame, "cue"), "behaviour")["p_corrected"].min())
        paths = {f"L0H{head}": 0.3 + levels[:, head] for head in range(2)}
        q.append(by_node(nodes_of("cue", **paths), frame, "cue")["q"].min())
    for ps in (corrected, q):  # the share can lie above by chance: two standard errors
        assert np.mean(np.array(ps) <= 0.05) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / runs)


def test_independent_turns_are_significant_no_oftener_than_said() -> None:
    runs, checkpoints, singly, smallest = 120, 24, [], []
    for seed in range(runs):
        changes, ours = np.random.default_rng(seed).normal(size=(2, checkpoints))
        coupled = at(coupling(counted(changes.cumsum(), active=ours.cumsum()), "cue"), "active")
        singly.append(coupled["p"][0])
        smallest.append(coupled["p_corrected"].min())
    for ps in (singly, smallest):
        for level in (1 / 23, 0.1, 0.25, 0.5):
            # the share can lie above by chance: three standard errors
            spread = np.sqrt(level * (1 - level) / runs)
            assert np.mean(np.array(ps) <= level) <= level + 3 * spread


@pytest.mark.parametrize("checkpoints", [0, 1, MINIMUM - 1])
def test_too_few_checkpoints_have_a_note_and_no_number(checkpoints: int) -> None:
    values = np.arange(checkpoints) % 3
    word = ("." + "#." * checkpoints)[: checkpoints + 1]
    coupled = Coupling.of(nodes_of(L0H0=word), counted(values, active=values), "cue")
    assert coupled.note == f"too few checkpoints ({checkpoints})"
    assert coupled.table.empty and list(coupled.table) == list(TABLE)
    assert coupled.per_node.empty and list(coupled.per_node) == list(PER_NODE)
    assert np.isnan(coupled.hazard.correlation) and np.isnan(coupled.hazard.p)
    assert len(coupled.hazard.table) == checkpoints


def test_the_note_says_what_so_many_checkpoints_can_show() -> None:
    assert coupling_note(MINIMUM) == (
        "8 checkpoints: no p can be below 0.12; corrected over lags, a strong coupling has "
        "about 0.5"
    )
    assert coupling_note(79) and coupling_note(80) is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("reward", [[0.1] * 10, [0.0] * 10, [0.3, 0.1 + 0.2] * 5])
def test_a_constant_reward_couples_with_nothing(reward: list[float]) -> None:
    words = {"L0H0": "." + "#." * 5, "L0H1": "." + "#" * 10, "L0H2": "." * 11}
    counts = counted(reward, active=[0, 1, 0, 2, 0, 0, 1, 0, 0, 1])
    coupled = Coupling.of(nodes_of(**words), counts, "cue")
    assert coupled.table["correlation"].isna().all()
    assert (coupled.table[["p", "p_corrected"]] == 1).to_numpy().all()
    assert coupled.per_node.empty
    assert np.isnan(coupled.hazard.correlation) and coupled.hazard.p == 1


@pytest.mark.filterwarnings("error")
@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from([np.nan, 0.1, 0.2, 0.7]), st.integers(0, 2), st.booleans()),
        max_size=14,
    )
)
def test_every_history_gives_probabilities(rows: list[tuple[float, int, bool]]) -> None:
    """However many rewards are missing, wherever."""
    reward = [row[0] for row in rows]
    word = "." + "".join(".#"[row[2]] for row in rows)
    counts = counted(reward, active=[row[1] for row in rows])
    coupled = Coupling.of(nodes_of(L0H0=word, L0H1=word[::-1]), counts, "cue")
    for p in (coupled.table["p"], coupled.table["p_corrected"], coupled.per_node["p"]):
        assert ((p > 0) & (p <= 1)).all()
    assert (coupled.table["correlation"].dropna().abs() <= 1 + 1e-9).all()
    assert np.isnan(coupled.hazard.p) or 0 < coupled.hazard.p <= 1
    known = int(np.isfinite(np.array(reward, dtype=float)).sum())
    assert coupled.table.empty == (known < MINIMUM)


def test_a_loss_among_accuracies_is_another_series() -> None:
    frame = counted([0.5, 2.0, 0.6, 0.7])
    frame["reward_name"] = ["loss", "accuracy", "loss", "accuracy", "accuracy"]
    series = rewards(frame, "cue")
    assert series.name == "accuracy"
    assert np.array_equal(series, [np.nan, 0.5, np.nan, 0.6, 0.7], equal_nan=True)


def test_the_last_stage_says_what_the_reward_is() -> None:
    frame = counted([2.0, 1.5, 1.0, 0.6])
    frame["reward_name"] = ["loss"] * 4 + ["reward"]
    assert rewards(frame, "cue").name == "loss"
    frame["stage"] = [0] * 4 + [3 * STEP]
    series = rewards(frame, "cue")
    assert (series.name, *series[series.notna()]) == ("reward", 0.6)


def test_a_timeline_s_own_frames_serve() -> None:
    generator = np.random.default_rng(4)
    shares = np.where(generator.random((12, 6)) < 0.5, 0.4, 0.0)
    shares[0] = 0
    records = records_by(Graph(1, 5), shares)
    rewarded = [
        replace(record, reward=float(generator.random()) if record.step else None)
        for record in records
    ]
    timeline = Timeline.of(rewarded)
    coupled = Coupling.of(timeline.nodes, timeline.counts, "cue")
    heads = shares[:, :5] > 0
    assert coupled.hazard.table["at_risk"].tolist() == heads[:-1].sum(1).tolist()
    left = heads[:-1] & ~heads[1:]
    assert coupled.hazard.table["pruned"].tolist() == left.sum(1).tolist() and left.any()
    assert coupled.per_node["node"].tolist() == list(Graph(1, 5).nodes)
    assert coupled.note == coupling_note(11)


def test_contrasts_are_apart() -> None:
    generator = np.random.default_rng(5)
    reward = generator.normal(size=10)
    one, two = (
        counted(reward, contrast, active=generator.normal(size=10)) for contrast in ("sums", "cue")
    )
    nodes = [nodes_of("sums", L0H0=".#.##.#..##"), nodes_of("cue", L0H0=".##..#.####")]
    both = Coupling.of(pd.concat(nodes), pd.concat([one, two]), "cue")
    alone = Coupling.of(nodes[1], two, "cue")
    pd.testing.assert_frame_equal(both.table, alone.table)
    pd.testing.assert_frame_equal(both.per_node, alone.per_node)
    pd.testing.assert_frame_equal(both.hazard.table, alone.hazard.table)


# By node


def test_a_node_s_turns_stand_against_the_reward_s() -> None:
    generator = np.random.default_rng(2)
    changes = generator.normal(size=40)
    paths = {f"L0H{head}": generator.normal(size=41).cumsum() for head in range(5)}
    paths["L0H5"] = np.concatenate([[0], (3 * changes + 0.5).cumsum()])
    paths["L0H6"] = np.full(41, 0.3)
    table = by_node(nodes_of("cue", **paths), counted(changes.cumsum()), "cue").set_index("node")
    assert list(table.index) == [f"L0H{head}" for head in range(6)]  # what does not vary has no row
    assert table["correlation"]["L0H5"] == pytest.approx(1) and table["p"]["L0H5"] == 1 / 38
    for head in range(5):
        theirs = turned(changes.cumsum())
        wanted = stats.pearsonr(turned(paths[f"L0H{head}"])[1:], theirs)[0]
        assert table["correlation"][f"L0H{head}"] == pytest.approx(wanted)
    wanted_q = stats.false_discovery_control(table["p"].to_numpy())
    assert table["q"].tolist() == pytest.approx(wanted_q.tolist())


# Hazard


def test_the_hazard_is_the_share_of_emergent_heads_that_leave() -> None:
    words = {
        "L0H0": "#.#.#",  # a base head is never at risk
        "L0H1": ".##.#",  # pruned, revived
        "L0H2": ".#..." ,
        "L0H3": "..###",
    }  # fmt: skip
    table = Hazard.of(nodes_of(**words), counted([1, 3, 2, 2]), "cue").table
    assert table["step"].tolist() == [10, 20, 30, 40]
    assert table["at_risk"].tolist() == [0, 2, 2, 1]
    assert table["pruned"].tolist() == [0, 1, 1, 0]
    assert np.array_equal(table["hazard"], [np.nan, 0.5, 0.5, 0], equal_nan=True)
    assert np.array_equal(table["change"], [np.nan, 2, -1, 0], equal_nan=True)


def test_heads_that_leave_when_the_reward_falls_show_in_the_hazard() -> None:
    generator = np.random.default_rng(7)
    reward = generator.normal(size=60)
    falls = np.diff(reward, prepend=reward[0]) < 0
    one = "..#" + "".join(np.where(falls[2:], ".", "#"))
    words = {"L0H0": one, "L0H1": ".." + "#" * 59, "L0H2": "." * 20 + "#" * 41}
    hazard = Hazard.of(nodes_of(**words), counted(reward), "cue")
    assert hazard.correlation < -0.2 and hazard.p <= 0.1
    assert hazard.table["hazard"].nunique() > 2
