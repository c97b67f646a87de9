"""The states of heads: a partition, blind to the future, as the words of the design have it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders.analyses import make_analysis
from tracking.errors import BadInput
from tracking.ledger.ledger import Ledger
from tracking.ledger.record import Analysis, Record
from tracking.model.graph import Graph
from tracking.timeline.activity import Thresholds
from tracking.timeline.head_table import judged
from tracking.timeline.states import ACTIVE, EMERGENT, STATES, carried, cohorts, states
from tracking.timeline.timeline import Timeline

ON, OFF, MAYBE = "active", "inactive", "undecided"
RESAMPLES, PAIRS = 200, 12


GRAPH = Graph(1, 1)


def histories(*verdicts: Any) -> st.SearchStrategy[np.ndarray]:
    """[step, head], of 1 to 8 steps and 1 to 6 heads."""
    return st.tuples(st.integers(1, 8), st.integers(1, 6)).flatmap(
        lambda shape: st.lists(
            st.lists(st.sampled_from(verdicts), min_size=shape[1], max_size=shape[1]),
            min_size=shape[0],
            max_size=shape[0],
        ).map(np.array)
    )


def analysis(membership: list[float], effect: list[float], spread: float = 0, **more) -> Analysis:
    """One that gives every head this share of the resamples and effects around this."""
    heads = len(membership)
    places = torch.arange(RESAMPLES)[:, None]
    noise = spread * torch.linspace(-1, 1, PAIRS)[:, None]
    return make_analysis(
        Graph(1, heads),
        in_circuit=places < (torch.tensor(membership) * RESAMPLES).round(),
        effect=torch.tensor(effect)[None] + noise,
        **more,
    )


def of_verdicts(row: Any) -> Analysis:
    shares = {ON: (1.0, 0.5), OFF: (0.0, 0.0), MAYBE: (0.5, 0.5)}
    membership, effect = zip(*(shares[verdict] for verdict in row), strict=True)
    return analysis(list(membership), list(effect))


def run(verdicts: Any, every: int = 10, **more: Any) -> list[Record]:
    """The records of a run of one layer with these verdicts [step][head]."""
    return [
        Record(index * every, 1, len(row), "ab12", {"pairs": of_verdicts(row)}, **more)
        for index, row in enumerate(verdicts)
    ]


def history(word: str) -> np.ndarray:
    """bool [step, 1] from `..##.`: active where there is a #."""
    return np.array([[letter == "#"] for letter in word])


# By boolean history


@pytest.mark.parametrize(
    ("active", "wanted"),
    [
        ("....", "inactive inactive inactive inactive"),
        ("####", "base retained retained retained"),
        ("#.#.", "base faded retained faded"),
        ("#...", "base faded faded faded"),
        ("..##", "inactive inactive new surviving"),
        (".###", "inactive new surviving surviving"),
        (".#..", "inactive new pruned pruned"),
        (".##.##", "inactive new surviving pruned revived emergent"),
        (".#.#.#", "inactive new pruned revived pruned revived"),
        (".#.###.#", "inactive new pruned revived emergent emergent pruned revived"),
        ("#", "base"),
        (".", "inactive"),
    ],
)
def test_a_history_has_the_states_of_the_design(active: str, wanted: str) -> None:
    assert states(history(active))[:, 0].tolist() == wanted.split()


@given(histories(True, False))
def test_states_partition_heads_by_what_is_active_and_was_at_the_start(
    active: np.ndarray,
) -> None:
    found = states(active)
    assert found.shape == active.shape
    assert set(found.ravel()) <= set(STATES)
    assert np.array_equal(np.isin(found, ACTIVE), active)
    base = np.broadcast_to(active[0], active.shape)
    assert np.array_equal(np.isin(found, ["base", "retained", "faded"]), base)
    assert np.array_equal(np.isin(found, EMERGENT), active & ~base)
    assert set(found[0]) <= {"base", "inactive"}
    assert "base" not in found[1:]


@given(histories(True, False))
def test_states_are_what_their_definitions_say(active: np.ndarray) -> None:
    """Read off the whole past of each head, instead of step by step."""
    found = states(active)
    for step in range(1, len(active)):
        for head in np.flatnonzero(~active[0]):
            past = active[:step, head].tolist()
            now, before = bool(active[step, head]), past[-1]
            cohort = past.index(True) if True in past else None
            if cohort is None:
                wanted = "new" if now else "inactive"
            elif not now:
                wanted = "pruned"
            elif all(past[cohort:]):
                wanted = "surviving"
            else:
                wanted = "emergent" if before else "revived"
            assert found[step, head] == wanted


@given(histories(True, False), st.data())
def test_a_later_checkpoint_changes_no_earlier_state(
    active: np.ndarray, data: st.DataObject
) -> None:
    upto = data.draw(st.integers(1, len(active)))
    steps = list(range(0, 10 * len(active), 10))
    assert np.array_equal(states(active)[:upto], states(active[:upto]))
    earlier = cohorts(active[:upto], steps[:upto])
    assert np.array_equal(cohorts(active, steps)[:upto], earlier, equal_nan=True)


@given(histories(True, False))
def test_heads_do_not_touch_each_other(active: np.ndarray) -> None:
    found = states(active)
    for head in range(active.shape[1]):
        alone = slice(head, head + 1)
        assert np.array_equal(states(active[:, alone]), found[:, alone])


@given(histories(True, False))
def test_a_cohort_is_the_step_at_which_a_head_was_new(active: np.ndarray) -> None:
    steps = [7 * index for index in range(len(active))]
    found, state = cohorts(active, steps), states(active)
    for head in range(active.shape[1]):
        new = np.flatnonzero(state[:, head] == "new")
        assert len(new) <= 1
        first = new[0] if len(new) else len(active)
        assert np.isnan(found[:first, head]).all()
        assert (found[first:, head] == (steps[first] if len(new) else None)).all()


@given(histories(ON, OFF, MAYBE))
def test_an_undecided_head_keeps_its_last_certain_state(verdicts: np.ndarray) -> None:
    active = carried(verdicts)
    for step, head in np.ndindex(verdicts.shape):
        certain_ones = [v for v in verdicts[: step + 1, head] if v != MAYBE]
        assert active[step, head] == (bool(certain_ones) and certain_ones[-1] == ON)


# By checkpoint


@pytest.mark.parametrize(
    ("membership", "effect", "wanted"),
    [
        (1, 0.5, ON),
        (1, -0.5, ON),  # it works against the right token, and surely
        (0, 0.0, OFF),
        (0, 0.5, OFF),  # whatever it could do, no circuit needs it
        (1, 0.001, OFF),  # in every circuit, of a behaviour that is not there
        (0.5, 0.0, OFF),
        (0.5, 0.5, MAYBE),
        (0.9, 0.5, ON),  # the bounds themselves count
        (0.895, 0.5, MAYBE),
        (0.1, 0.5, OFF),
        (0.105, 0.5, MAYBE),
    ],
)
def test_the_verdict_takes_membership_and_effect(
    membership: float, effect: float, wanted: str
) -> None:
    found = judged(GRAPH, analysis([membership], [effect]), Thresholds())
    assert found["verdict"].tolist() == [wanted]
    assert found["membership"].tolist() == pytest.approx([membership])
    assert found["effect"].tolist() == pytest.approx([effect])


def test_an_effect_whose_interval_holds_the_threshold_is_undecided() -> None:
    wide, narrow = (
        judged(GRAPH, analysis([1], [0.03], spread), Thresholds()) for spread in (0.1, 0.001)
    )
    assert wide["verdict"].tolist() == [MAYBE]
    assert float(wide["effect_low"].iloc[0]) < 0.02 < float(wide["effect_high"].iloc[0])
    assert narrow["verdict"].tolist() == [ON]
    strict = judged(GRAPH, analysis([1], [0.03], 0.001), Thresholds(effect=0.05))
    assert strict["verdict"].tolist() == [OFF]


@given(st.floats(0, 1), st.floats(-0.2, 0.2), st.floats(0, 0.2), st.floats(0.55, 1))
def test_verdicts_are_those_of_the_words(
    membership: float, effect: float, spread: float, member: float
) -> None:
    found = judged(GRAPH, analysis([membership], [effect], spread), Thresholds(member=member))
    row: dict[str, Any] = found.to_dict("records")[0]  # type: ignore[assignment]
    low, high, share = row["effect_low"], row["effect_high"], row["membership"]
    assert low <= row["effect"] + 1e-6 and row["effect"] <= high + 1e-6
    margins = [abs(share - member), abs(share - 1 + member)]
    margins += [abs(bound - edge) for bound in (low, high) for edge in (-0.02, 0.02)]
    if min(margins) < 1e-6:
        return  # too near a bound for float32 to tell
    sure = low > 0.02 or high < -0.02
    below = low > -0.02 and high < 0.02
    wanted = MAYBE
    if share > member and sure:
        wanted = ON
    elif share < 1 - member or below:
        wanted = OFF
    assert row["verdict"] == wanted


# By run


@settings(deadline=None, max_examples=30)
@given(histories(ON, OFF, MAYBE))
def test_the_timeline_s_rows_are_the_states_of_the_verdicts(verdicts: np.ndarray) -> None:
    timeline = Timeline.of(run(verdicts))
    active = carried(verdicts)
    table, shape = timeline.heads, verdicts.shape
    assert table["state"].to_numpy().reshape(shape).tolist() == states(active).tolist()
    assert np.array_equal(table["active"].to_numpy().reshape(shape), active)
    assert np.array_equal(table["undecided"].to_numpy().reshape(shape), verdicts == MAYBE)
    steps = [10 * index for index in range(shape[0])]
    assert table["step"].tolist() == np.repeat(steps, shape[1]).tolist()
    assert table["head"].tolist() == [f"L0H{head}" for head in range(shape[1])] * shape[0]
    found = table["cohort"].to_numpy().reshape(shape)
    assert np.array_equal(found, cohorts(active, steps), equal_nan=True)
    share = np.cumsum(active, axis=0) / np.arange(1, shape[0] + 1)[:, None]
    assert np.allclose(table["activations"].to_numpy().reshape(shape), share)


@settings(deadline=None, max_examples=30)
@given(histories(ON, OFF, MAYBE))
def test_counts_are_those_of_the_rows(verdicts: np.ndarray) -> None:
    timeline = Timeline.of(run(verdicts))
    before = None
    counts: list[dict[str, Any]] = timeline.counts.to_dict("records")  # type: ignore[assignment]
    assert [row["step"] for row in counts] == [10 * index for index in range(len(verdicts))]
    for index, row in enumerate(counts):
        table = timeline.at(row["step"], "pairs")
        number = table["state"].value_counts().to_dict()
        for state in ("retained", "faded", "new", "surviving", "revived", "pruned"):
            assert row[state] == number.get(state, 0)
        emergent = ("new", "surviving", "revived", "emergent")
        assert row["emergent"] == sum(number.get(state, 0) for state in emergent)
        assert row["active"] == row["emergent"] + number.get("base", 0) + number.get("retained", 0)
        inactive = row["faded"] + row["pruned"] + number.get("inactive", 0)
        assert row["active"] + inactive == verdicts.shape[1]
        assert row["undecided"] == (verdicts[index] == MAYBE).sum()
        now = table["active"].to_numpy()
        if before is None:
            assert np.isnan(row["turnover"])
        else:
            either = (now | before).sum()
            assert row["turnover"] == ((now != before).sum() / either if either else 0)
        before = now


def test_turnover_is_what_a_hand_counts() -> None:
    a, o, u = ON, OFF, MAYBE
    verdicts = [
        [a, a, o, o],
        [a, o, a, o],  # one left, one came, three in either
        [a, u, a, o],  # the undecided one stays out
        [u, a, u, u],  # one came of three; the others stay as they were
        [o, o, o, o],  # all three left
        [o, o, o, u],  # nobody in either
    ]
    turnover = Timeline.of(run(verdicts)).counts["turnover"].tolist()
    assert np.isnan(turnover[0])
    assert turnover[1:] == pytest.approx([2 / 3, 0, 1 / 3, 1, 0])


@settings(deadline=None, max_examples=30)
@given(histories(ON, OFF, MAYBE), st.data())
def test_a_later_record_changes_no_earlier_row(verdicts: np.ndarray, data: st.DataObject) -> None:
    upto = data.draw(st.integers(1, len(verdicts)))
    records = run(verdicts, reward=0.5)
    whole, part = Timeline.of(records), Timeline.of(records[:upto])
    rows = whole.heads[whole.heads["step"] < 10 * upto].reset_index(drop=True)
    fate = ["fate"]  # is of the whole run, and may
    pd.testing.assert_frame_equal(rows.drop(columns=fate), part.heads.drop(columns=fate))
    pd.testing.assert_frame_equal(whole.counts[:upto], part.counts)


def test_a_timeline_of_one_record_has_base_heads_and_no_turnover() -> None:
    timeline = Timeline.of(run([[ON, OFF, MAYBE]]))
    assert timeline.heads["state"].tolist() == ["base", "inactive", "inactive"]
    assert timeline.counts[["active", "emergent", "undecided"]].to_numpy().tolist() == [[1, 0, 1]]
    assert timeline.counts["turnover"].isna().all() and timeline.heads["cohort"].isna().all()
    assert timeline.counts["reward"].isna().all()


def test_a_timeline_of_no_record_is_refused() -> None:
    with pytest.raises(BadInput, match="no records"):
        Timeline.of([])


def test_a_base_head_grows_when_its_interval_leaves_the_first_one() -> None:
    effects = [[0.3, 0.3, 0.3, 0.0], [0.4, 0.2, 0.305, 0.4]]
    records = [
        Record(step, 1, 4, "ab12", {"pairs": analysis([1, 1, 1, 1], row, spread=0.05)})
        for step, row in enumerate(effects)
    ]
    timeline = Timeline.of(records)
    assert timeline.at(0, "pairs")["growth"].tolist() == ["", "", "", ""]
    # the last one is no base head: it is new, not amplified
    assert timeline.at(1, "pairs")["growth"].tolist() == ["amplified", "damped", "", ""]
    assert timeline.at(1, "pairs")["state"].tolist() == ["retained", "retained", "retained", "new"]


def test_kinds_of_pairs_are_judged_apart_and_keep_what_their_records_say() -> None:
    def two(step: int, first: list[str], second: list[str], **more: Any) -> Record:
        membership = [float(verdict == ON) for verdict in second]
        cues = analysis(membership, [0.5, 0.5], gap=0.2, clean=0.75, corrupted=0.25)
        return Record(step, 1, 2, "ab12", {"sums": of_verdicts(first), "cues": cues}, **more)

    timeline = Timeline.of(
        [
            two(0, [ON, OFF], [OFF, ON], reward=None, seconds=1.5),
            two(100, [ON, ON], [OFF, OFF], reward=0.25, reward_name="loss", seconds=2.5),
        ]
    )
    assert timeline.contrasts == ["sums", "cues"]
    assert timeline.at(100, "sums")["state"].tolist() == ["retained", "new"]
    assert timeline.at(100, "cues")["state"].tolist() == ["inactive", "faded"]
    counts = timeline.counts.set_index(["contrast", "step"])
    assert counts["converged"].tolist() == [True, True, False, False]
    assert counts["gap"].tolist() == [0.01, 0.01, 0.2, 0.2]
    assert counts["clean"].tolist() == [0.9, 0.9, 0.75, 0.75]
    assert counts["corrupted"].tolist() == [0.1, 0.1, 0.25, 0.25]
    assert counts["seconds"].tolist() == [1.5, 2.5] * 2
    assert counts["reward_name"].tolist() == ["reward", "loss"] * 2
    assert np.array_equal(counts["reward"], [np.nan, 0.25] * 2, equal_nan=True)
    assert counts["turnover"].tolist()[1::2] == [0.5, 1]


def test_a_run_is_read_with_the_thresholds_it_was_made_with(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "heads")
    with pytest.raises(BadInput, match=r"heads has no records; sparks track"):
        Timeline.read(tmp_path)
    ledger.folder.mkdir()
    graph = Graph(1, 2)
    half = torch.tensor([[True, False]] * 8 + [[False, False]] * 2)
    analysis = make_analysis(graph, in_circuit=half, effect=torch.tensor([[0.5, 0.0]] * 8))
    for member, active in ((0.9, 0), (0.75, 1)):
        ledger.write(Record(0, 1, 2, "0", {"cue": analysis}, thresholds={"member": member}))
        assert Timeline.read(tmp_path).counts["active"].tolist() == [active]
    with pytest.raises(BadInput, match="no such run"):
        Timeline.read(tmp_path / "elsewhere")
