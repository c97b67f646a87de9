"""Heads follow the reward only beyond shifts in time."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.builders.analyses import make_analysis
from tracking.ledger.record import Record
from tracking.model.graph import Graph
from tracking.timeline.coupling import (
    LAGS,
    MINIMUM,
    PER_HEAD,
    TABLE,
    Coupling,
    Hazard,
    by_head,
    coupling,
    coupling_note,
    pearson,
    rewards,
    shift_p,
    shifts,
)
from tracking.timeline.states import EMERGENT
from tracking.timeline.timeline import Timeline

STEP = 10
Values = Sequence[float] | np.ndarray


def counted(reward: Values, contrast: str = "pairs", **numbers: Values) -> pd.DataFrame:
    """A timeline's counts: step 0 without a reward, then a checkpoint for each."""
    steps = len(reward) + 1
    heads = {name: [0, *numbers.get(name, [0] * len(reward))] for name in ("new", "pruned")}
    return pd.DataFrame(
        {
            "contrast": contrast,
            "step": np.arange(steps) * STEP,
            "reward": [np.nan, *reward],
            "reward_name": "reward",
            "surviving": [0, *numbers.get("surviving", [0] * len(reward))],
            **heads,
        }
    )


def timeline(contrast: str = "pairs", **histories: str) -> pd.DataFrame:
    """A timeline's heads from histories `.##.`, active where there is a #, from step 0 on."""
    rows = []
    for head, word in histories.items():
        cohort = np.nan
        for index, letter in enumerate(word):
            if letter == "#" and word[0] == "." and np.isnan(cohort):
                cohort = index * STEP
            row = {
                "contrast": contrast,
                "step": index * STEP,
                "head": head,
                "active": letter == "#",
            }
            rows.append({**row, "cohort": cohort})
    return pd.DataFrame(rows).sort_values("step", kind="stable", ignore_index=True)


def at(table: pd.DataFrame, heads: str, against: str) -> pd.DataFrame:
    """By lag."""
    chosen = table[(table["heads"] == heads) & (table["against"] == against)]
    return chosen.set_index("lag")


@pytest.mark.parametrize("heads", ["new", "pruned", "surviving"])
@pytest.mark.parametrize("against", ["reward", "change"])
@pytest.mark.parametrize(("lag", "sign"), [(-3, 1), (0, -1), (2, 1), (2, -1), (3, 1)])
def test_a_planted_lag_is_found_there_with_its_sign(
    heads: str, against: str, lag: int, sign: int
) -> None:
    generator = np.random.default_rng(3)
    reward = generator.normal(size=120)
    followed = reward if against == "reward" else np.diff(reward, prepend=0)
    # the heads at t are what the reward was `lag` checkpoints before
    numbers = sign * np.roll(followed, lag) + 0.5 * generator.normal(size=120)
    table = coupling(counted(reward, "pairs", **{heads: numbers}), "pairs")
    found = at(table, heads, against)
    assert found["correlation"].abs().idxmax() == lag
    assert np.sign(found["correlation"][lag]) == sign
    assert found["p"][lag] <= 2 / 119
    assert found["p_corrected"][lag] <= len(LAGS) / 119
    others = table[table["heads"] != heads]
    assert others["correlation"].isna().all()
    assert (others[["p", "p_corrected"]] == 1).to_numpy().all()


def test_correlations_are_pearson_s_of_the_overlap() -> None:
    generator = np.random.default_rng(0)
    reward, new = generator.normal(size=12), generator.integers(0, 9, 12).astype(float)
    table = coupling(counted(reward, new=new), "pairs")
    assert list(table) == list(TABLE) and len(table) == 3 * 2 * 7
    found, change = at(table, "new", "reward"), at(table, "new", "change")
    for lag, ours, theirs in [
        (0, new, reward),
        (2, new[2:], reward[:-2]),
        (-3, new[:-3], reward[3:]),
    ]:
        assert found["correlation"][lag] == pytest.approx(stats.pearsonr(ours, theirs)[0])
        assert found["n"][lag] == len(ours)
    wanted = stats.pearsonr(new[2:], np.diff(reward)[:-1])[0]
    assert change["correlation"][1] == pytest.approx(wanted)
    assert change["n"].tolist() == [8, 9, 10, 11, 10, 9, 8]


def test_p_counts_the_shifts_that_do_as_well() -> None:
    """By brute force, at a lag and over them."""
    generator = np.random.default_rng(1)
    reward, new = generator.normal(size=9), generator.normal(size=9)
    null = np.array(
        [
            [
                abs(np.corrcoef(np.roll(new, shift)[max(lag, 0) : 9 + min(lag, 0)],
                                reward[max(-lag, 0) : 9 - max(lag, 0)])[0, 1])
                for lag in range(-3, 4)
            ]
            for shift in range(9)
        ]
    )  # fmt: skip
    found = at(coupling(counted(reward, new=new), "pairs"), "new", "reward")
    assert found["p"].tolist() == pytest.approx((null >= null[0]).mean(0).tolist())
    corrected = (null.max(1)[:, None] >= null[0]).mean(0)
    assert found["p_corrected"].tolist() == pytest.approx(corrected.tolist())
    assert (found["p_corrected"] >= found["p"]).all() and found["p"].min() >= 1 / 9


def test_the_null_of_a_hand_case() -> None:
    assert shifts(np.array([1, 2, 3])).tolist() == [[1, 2, 3], [3, 1, 2], [2, 3, 1]]
    assert shifts(np.array([])).shape == (1, 0)
    # one peak in four: it meets the reward's own in one shift of four
    peak = np.array([0.0, 1, 0, 0])
    found = pearson(shifts(peak), peak)
    assert found.tolist() == pytest.approx([1, -1 / 3, -1 / 3, -1 / 3])
    assert shift_p(found) == 0.25
    assert shift_p(found[[1, 0, 2, 3]]) == 1
    assert shift_p(np.array([-0.5, 0.5, 0.2, np.nan])) == 0.5
    assert shift_p(np.array([np.nan, 0.5])) == 1
    # two peaks opposite each other come back after two shifts
    twice = np.array([0.0, 1, 0, 1])
    assert shift_p(pearson(shifts(twice), np.array([0.0, 1, 0, 0.5]))) == 1


def test_independent_series_are_found_no_oftener_than_said() -> None:
    runs, checkpoints = 120, 24
    singly, smallest, heads = [], [], []
    for seed in range(runs):
        generator = np.random.default_rng(seed)
        reward = generator.normal(size=checkpoints)
        frame = counted(reward, new=generator.poisson(3, checkpoints))
        found = at(coupling(frame, "pairs"), "new", "reward")
        singly.append(found["p"][0])
        smallest.append(found["p_corrected"].min())
        active = generator.permutation(checkpoints) < checkpoints // 2
        word = "." + "".join(np.where(active, "#", "."))
        heads.append(by_head(timeline(L0H0=word), frame, "pairs")["p"][0])
    for said in (singly, smallest, heads):
        for level in (1 / 24, 0.1, 0.25, 0.5):
            # the share can lie above by chance: three standard errors
            assert np.mean(np.array(said) <= level) <= level + 3 * np.sqrt(
                level * (1 - level) / runs
            )
    assert stats.kstest(singly, "uniform").pvalue > 1e-3  # and not much rarer either


def test_a_trend_in_both_is_no_coupling_with_the_change() -> None:
    found = []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        rise = np.linspace(0, 4, 40)
        frame = counted(
            rise + generator.normal(size=40), surviving=rise + generator.normal(size=40)
        )
        found.append(at(coupling(frame, "pairs"), "surviving", "change")["p_corrected"].min())
    assert np.mean(np.array(found) <= 0.1) <= 0.25


@pytest.mark.parametrize("checkpoints", [0, 1, MINIMUM - 1])
def test_too_few_checkpoints_have_a_note_and_no_number(checkpoints: int) -> None:
    values = np.arange(checkpoints) % 3
    word = "." + "#." * checkpoints
    found = Coupling.of(
        timeline(L0H0=word[: checkpoints + 1]), counted(values, new=values), "pairs"
    )
    assert found.note == f"too few checkpoints ({checkpoints})"
    assert found.table.empty and list(found.table) == list(TABLE)
    assert found.per_head.empty and list(found.per_head) == list(PER_HEAD)
    assert np.isnan(found.hazard.correlation) and np.isnan(found.hazard.p)
    assert len(found.hazard.table) == checkpoints


def test_the_note_says_what_so_many_checkpoints_can_show() -> None:
    assert coupling_note(MINIMUM) == (
        "8 checkpoints: no p can be below 0.12; corrected over lags, a strong coupling has "
        "about 0.5"
    )
    assert coupling_note(79) and coupling_note(80) is None


def test_just_enough_checkpoints_have_numbers() -> None:
    values = [0.0, 1, 0, 0, 1, 1, 0, 1]
    word = ".#.##.#.#"
    found = Coupling.of(timeline(L0H0=word), counted(values, new=values[::-1]), "pairs")
    assert found.note and not found.note.startswith("too few")
    assert found.reward_name == "reward"
    assert len(found.table) == 42 and len(found.per_head) == 1
    assert found.hazard.n < MINIMUM - 1 and np.isnan(found.hazard.correlation)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("reward", [[0.1] * 10, [0.0] * 10, [0.3, 0.1 + 0.2] * 5])
@pytest.mark.parametrize("new", [[0] * 10, [3] * 10, [0, 1, 0, 2, 0, 0, 1, 0, 0, 1]])
def test_a_constant_reward_couples_with_nothing(reward: list[float], new: list[int]) -> None:
    words = {"L0H0": "." + "#." * 5, "L0H1": "." + "#" * 10, "L0H2": "." * 11}
    found = Coupling.of(timeline(**words), counted(reward, new=new), "pairs")
    assert found.table["correlation"].isna().all()
    assert (found.table[["p", "p_corrected"]] == 1).to_numpy().all()
    assert found.per_head["head"].tolist() == ["L0H0"]
    assert found.per_head["p"].tolist() == [1] and found.per_head["q"].tolist() == [1]
    assert np.isnan(found.hazard.correlation) and found.hazard.p == 1


@pytest.mark.filterwarnings("error")
@settings(deadline=None, max_examples=40)
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
    found = Coupling.of(
        timeline(L0H0=word, L0H1=word[::-1]),
        counted(reward, new=[row[1] for row in rows]),
        "pairs",
    )
    for p in (found.table["p"], found.table["p_corrected"], found.per_head["p"]):
        assert ((p > 0) & (p <= 1)).all()
    assert (found.table["correlation"].dropna().abs() <= 1 + 1e-9).all()
    assert np.isnan(found.hazard.p) or 0 < found.hazard.p <= 1
    known = int(np.isfinite(np.array(reward, dtype=float)).sum())
    assert found.table.empty == (known < MINIMUM)


def test_step_0_and_missing_rewards_are_left_out() -> None:
    reward = np.array([1.0, 5, 2, 4, np.nan, 3, 9, 1, 7, 6])
    new = np.array([2.0, 7, 1, 1, 8, 2, 8, 1, 8, 2])
    frame = counted(reward, new=new)
    frame.loc[0, "new"] = 1000  # at a step without a reward
    found = at(coupling(frame, "pairs"), "new", "reward")
    known = np.isfinite(reward)
    wanted = stats.pearsonr(new[known], reward[known])[0]
    assert found["correlation"][0] == pytest.approx(wanted) and found["n"][0] == 9
    pairs = known[:-1]
    wanted = stats.pearsonr(new[1:][pairs], reward[:-1][pairs])[0]
    assert found["correlation"][1] == pytest.approx(wanted) and found["n"][1] == 8
    assert at(coupling(frame, "pairs"), "new", "change")["n"][0] == 7


def test_a_loss_among_accuracies_is_another_series() -> None:
    frame = counted([0.5, 2.0, 0.6, 0.7])
    frame["reward_name"] = ["loss", "accuracy", "loss", "accuracy", "accuracy"]
    found = rewards(frame, "pairs")
    assert found.name == "accuracy"
    assert np.array_equal(found, [np.nan, 0.5, np.nan, 0.6, 0.7], equal_nan=True)


def test_a_timeline_s_own_frames_serve() -> None:
    generator = np.random.default_rng(4)
    active = generator.random((12, 5)) < 0.5
    reward = [None, *generator.random(11).tolist()]
    records = [
        Record(
            step=STEP * index,
            n_layers=1,
            n_heads=5,
            pairs="ab12",
            analyses={
                "pairs": make_analysis(
                    Graph(1, 5),
                    in_circuit=torch.tensor(now).expand(10, -1),
                    effect=torch.tensor(now).float().expand(8, -1) / 2,
                )
            },
            reward=value,
        )
        for index, (now, value) in enumerate(zip(active, reward, strict=True))
    ]
    made = Timeline.of(records)
    found = Coupling.of(made.heads, made.counts, "pairs")
    emergent = made.heads["state"].isin(EMERGENT).to_numpy().reshape(12, 5)
    assert found.hazard.table["at_risk"].tolist() == emergent[:-1].sum(1).tolist()
    left = emergent[:-1] & ~emergent[1:]
    assert found.hazard.table["pruned"].tolist() == left.sum(1).tolist() and left.any()
    assert found.per_head["active"].tolist() == active[1:].sum(0).tolist()
    assert len(found.table) == 42 and found.note == coupling_note(11)


def test_kinds_are_apart() -> None:
    generator = np.random.default_rng(5)
    reward = generator.normal(size=10)
    one, two = (
        counted(reward, contrast, new=generator.normal(size=10)) for contrast in ("sums", "cues")
    )
    heads = [timeline("sums", L0H0=".#.##.#..##"), timeline("cues", L0H0=".##..#.####")]
    both = Coupling.of(pd.concat(heads), pd.concat([one, two]), "cues")
    alone = Coupling.of(heads[1], two, "cues")
    pd.testing.assert_frame_equal(both.table, alone.table)
    pd.testing.assert_frame_equal(both.per_head, alone.per_head)
    pd.testing.assert_frame_equal(both.hazard.table, alone.hazard.table)


# By head


def test_a_head_s_reward_is_that_of_the_checkpoints_at_which_it_is_active() -> None:
    reward = [1.0, 0, 4, 0, 0, 0, 0, 0]
    words = {"L0H2": "#.#.#####", "L0H10": ".#.#.....", "L0H1": "." * 9, "L0H0": "." + "#" * 8}
    found = by_head(timeline(**words), counted(reward), "pairs")
    assert found["head"].tolist() == ["L0H2", "L0H10"]  # those that were both, in their order
    rest = found[["active", "inactive", "while_active", "while_inactive", "difference"]]
    assert rest.to_numpy().tolist() == [[6, 2, 0, 2.5, -2.5], [2, 6, 2.5, 0, 2.5]]
    # of the eight shifts of .#.##### only that of none gets both rewards
    assert found["p"].tolist() == [1 / 8, 1 / 8] and found["q"].tolist() == [1 / 8, 1 / 8]


def test_q_is_benjamini_and_hochberg_s() -> None:
    generator = np.random.default_rng(2)
    reward = generator.normal(size=40)
    words = {
        f"L0H{index}": "." + "".join(np.where(generator.random(40) < 0.5, "#", "."))
        for index in range(5)
    }
    words["L0H5"] = "." + "".join(np.where(reward > 0, "#", "."))
    found = by_head(timeline(**words), counted(reward), "pairs")
    order = np.argsort(found["p"].to_numpy())
    least, wanted = 1.0, np.empty(6)
    for rank in range(6, 0, -1):
        place = order[rank - 1]
        least = min(least, found["p"][place] * 6 / rank)
        wanted[place] = least
    assert found["q"].tolist() == pytest.approx(wanted.tolist())
    assert found["p"][5] == 1 / 40 and found["difference"][5] > 1
    assert len(set(found["p"])) > 3


# Hazard


def test_the_hazard_is_the_share_of_emergent_heads_that_leave() -> None:
    words = {
        "L0H0": "#.#.#",  # a base head is never at risk
        "L0H1": ".##.#",  # pruned, revived
        "L0H2": ".#..." ,
        "L0H3": "..###",
    }  # fmt: skip
    found = Hazard.of(timeline(**words), counted([1, 3, 2, 2]), "pairs").table
    assert found["step"].tolist() == [10, 20, 30, 40]
    assert found["at_risk"].tolist() == [0, 2, 2, 1]
    assert found["pruned"].tolist() == [0, 1, 1, 0]
    assert np.array_equal(found["hazard"], [np.nan, 0.5, 0.5, 0], equal_nan=True)
    assert np.array_equal(found["change"], [np.nan, 2, -1, 0], equal_nan=True)


def test_heads_that_leave_when_the_reward_falls_show_in_the_hazard() -> None:
    generator = np.random.default_rng(7)
    reward = generator.normal(size=60)
    falls = np.diff(reward, prepend=reward[0]) < 0
    one = "..#" + "".join(np.where(falls[2:], ".", "#"))
    assert len(one) == 61
    words = {"L0H0": one, "L0H1": ".." + "#" * 59, "L0H2": "." * 20 + "#" * 41}
    found = Hazard.of(timeline(**words), counted(reward), "pairs")
    table = found.table.dropna()
    ranks = table[["hazard", "change"]].rank()
    wanted = np.corrcoef(ranks["hazard"], ranks["change"])[0, 1]
    assert found.correlation == pytest.approx(wanted) and found.correlation < -0.5
    assert table["hazard"].nunique() > 2
    assert found.n == len(table) and found.p <= 2 / 58
