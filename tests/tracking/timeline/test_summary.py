"""What a run is summed up as: no word that its figures do not support."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.builders.analyses import PAIRS, make_analysis
from tests.builders.timelines import records_by, records_named, records_of
from tracking.ledger.record import WiringResult
from tracking.model.graph import Graph
from tracking.timeline.activity import Thresholds
from tracking.timeline.summary import Figure, Summary
from tracking.timeline.timeline import Timeline

GRAPH = Graph(2, 2)


def summed(paths: dict[str, list[float]], control: Timeline | None = None, **more: Any) -> Summary:
    timeline = Timeline.of(records_named(GRAPH, paths, **more), control=control)
    return Summary.of(timeline, "cue")


def with_wiring(kept: tuple[float, ...], null: tuple[float, ...]) -> Summary:
    plain = make_analysis(GRAPH).wiring
    assert isinstance(plain, WiringResult)
    ends = ("", "_low", "_high")
    named = {f"wiring_kept{e}": v for e, v in zip(ends, kept, strict=True)}
    named |= {f"wiring_null{e}": v for e, v in zip(ends, null, strict=True)}
    named |= {f"{k[:11]}_half{k[11:]}": value for k, value in named.items()}
    analyses = [make_analysis(GRAPH, wiring=None), make_analysis(GRAPH)]
    analyses[1] = replace(analyses[1], wiring=replace(plain, **named))
    return Summary.of(Timeline.of(records_of(GRAPH, analyses)), "cue")


def test_the_sentence_names_who_carries_it_and_since_when() -> None:
    summary = summed({"L0H0": [0.4] * 3, "M1": [0, 0.4, 0.4], "L1H0": [0.4, 0, 0]})
    assert summary.carriers == {"base": ("L0H0",), "recruited": ("M1",), "with the behaviour": ()}
    assert summary.carried == (
        "It is carried by 1 head from the start (L0H0) and 1 MLP that was recruited (M1 since "
        "step 10); 1 head faded (L1H0)."
    )
    assert "beyond resampling of these pairs; none is beyond the run's own fluctuation (that" in (
        summary.supported
    )


def test_a_node_with_a_negative_share_does_not_carry_the_behaviour() -> None:
    summary = summed({"L0H0": [0.4] * 2, "L0H1": [-0.3] * 2, "L1H1": [0, -0.3]})
    assert summary.against == ("L0H1", "L1H1")
    assert "carried by 1 head from the start (L0H0); 2 heads work against it (L0H1, L1H1 " in (
        summary.carried
    )


def test_a_node_that_step_0_could_not_tell_is_named_where_it_carries_today() -> None:
    summary = summed({"L0H0": [0.4, 0.0], "L0H1": [0.05, 0.9]}, noise=0.05)
    assert summary.undecided == summary.unsettled == ("L0H1",)
    assert "carried by 1 head without a history (L0H1)" in summary.carried


def test_a_node_that_is_surely_small_today_does_not_carry() -> None:
    summary = summed({"L0H0": [0.4] * 2, "L0H1": [0.06, 0.02]}, noise=0.005)
    assert summary.small == ("L0H1",) and summary.carriers["base"] == ("L0H0",)
    assert "1 head fell below the threshold by no tested change (L0H1)" in summary.carried


def test_a_node_that_is_surely_large_today_by_no_tested_change_is_named() -> None:
    summary = summed({"L0H0": [0.4] * 2, "L0H1": [0.04, 0.06]}, noise=0.005)
    assert summary.large == ("L0H1",) and summary.small == ()
    assert "1 head rose above the threshold by no tested change (L0H1)" in summary.carried


def test_a_carrier_that_began_by_working_against_is_told() -> None:
    summary = summed({"L0H0": [-0.3, 0.3], "L0H1": [0.4, 0.4]})
    assert summary.crossed == ("L0H0",)
    assert "L0H0 at first on the other side, L0H1" in summary.carried


@pytest.mark.parametrize(("began", "word"), [(-2.0, "not surely there"), (-5.0, "turned round")])
def test_wires_are_not_compared_with_a_step_that_had_no_behaviour(began: float, word: str) -> None:
    analyses = [make_analysis(GRAPH, clean=torch.full((PAIRS,), by)) for by in (began, 2.0)]
    summary = Summary.of(Timeline.of(records_of(GRAPH, analyses)), "cue")
    assert summary.began == "absent"
    assert summary.rewired == f"At step 0 it was {word}, so no wires are known of then."


def test_a_run_that_begins_later_speaks_of_no_step_0() -> None:
    records = [replace(one, step=one.step + 12) for one in records_named(GRAPH, {"M0": [0.4] * 2})]
    summary = Summary.of(Timeline.of(records), "cue")
    assert "1 MLP since step 12 (M0)" in summary.carried
    assert "step 0" not in summary.sentence and "from the start" not in summary.sentence


def test_a_behaviour_that_was_away_in_between_is_told() -> None:
    analyses = [make_analysis(GRAPH, clean=torch.full((PAIRS,), by)) for by in (2.0, -2.0, 2.0)]
    summary = Summary.of(Timeline.of(records_of(GRAPH, analyses)), "cue")
    assert summary.absent == 1
    assert "at 1 of the checkpoints between it was not surely there" in summary.grew


def test_a_behaviour_that_is_turned_round_is_not_carried_by_nothing() -> None:
    analyses = [make_analysis(GRAPH, clean=torch.full((PAIRS,), by)) for by in (2.0, -5.0)]
    summary = Summary.of(Timeline.of(records_of(GRAPH, analyses)), "cue")
    assert summary.carried.startswith("It is turned round at the end")


def test_what_the_carriers_carry_at_once_is_told() -> None:
    first, last = records_named(GRAPH, {"L0H0": [0.1, 0.1]})
    part = last.analyses["cue"]
    active = torch.zeros(len(GRAPH.nodes), dtype=torch.bool)
    active[GRAPH.nodes.index("L0H0")] = True
    lost = replace(part.nodes, together=active, together_corrupt=torch.full((PAIRS,), 0.4))
    records = [first, replace(last, analyses={"cue": replace(part, nodes=lost)})]
    summary = Summary.of(Timeline.of(records), "cue")
    assert "(L0H0); all that are surely active today lose 0.10 of it at once" in summary.carried


def test_a_node_that_was_gone_in_between_is_not_there_since() -> None:
    summary = summed({"L0H0": [0, 0.4, 0, 0.4], "L0H1": [0.4, 0, 0.4, 0.4], "M0": [0.4] * 4})
    assert summary.interrupted == ("L0H0", "L0H1")
    assert "(L0H1 with breaks, M0)" in summary.carried
    assert "(L0H0 since step 10 with breaks)" in summary.carried


def test_a_node_that_came_and_went_is_a_change_of_state() -> None:
    summary = summed({"L0H0": [0, 0.4, 0]})
    assert summary.transient == ("L0H0",) and "1 head came and went (L0H0)" in summary.carried
    assert summary.supported.startswith("Changes are beyond resampling of these pairs")
    assert summed({"L0H0": [0.4] * 3}).supported.startswith("No state changed")


def test_what_step_0_did_not_measure_is_said() -> None:
    first, second = records_named(GRAPH, {"L0H0": [0.0, 0.4]})
    part = first.analyses["cue"]
    nothing = torch.full_like(part.nodes.corrupt, torch.nan)
    left_out = replace(part, nodes=replace(part.nodes, corrupt=nothing, restore=nothing))
    records = [replace(first, analyses={"cue": left_out}), second]
    summary = Summary.of(Timeline.of(records), "cue")
    assert summary.scored == ("L0H0",) and "step 0 knew L0H0 by scores alone" in summary.carried
    assert summed({"L0H0": [0, 0.4]}).scored == ()


def test_drift_has_grown_only_beyond_a_control() -> None:
    paths = {"L0H0": [0.4, 0.5], "L0H1": [0.5, 0.4]}
    plain = summed(paths)
    assert plain.drifted == {"drifted": ("L0H0", "L0H1")}
    assert "has drifted" in plain.carried and "no control was given" in plain.supported
    for level, words in ((0.06, {"grown": ("L0H0",), "shrunk": ("L0H1",)}),
                         (0.2, {"drifted": ("L0H0", "L0H1")})):  # fmt: skip
        control = Timeline.of(records_named(GRAPH, {"L0H0": [0.4, 0.4 + level]}))
        summary = summed(paths, control)
        assert summary.drifted == words and "no control" not in summary.supported
        assert (
            f"control run of 10 steps, in which shares moved by {level:.2f} at most, no node "
            "emerged and no node faded" in summary.supported
        )


def test_what_emerged_and_faded_in_the_control_is_told() -> None:
    paths = {"L0H0": [0, 0.4, 0.4], "L0H1": [0, 0.4, 0], "M0": [0.4, 0.4, 0]}
    summary = summed({"L1H0": [0, 0.4, 0.4]}, Timeline.of(records_named(GRAPH, paths)))
    assert summary.control is not None
    assert [*summary.control.cohorts, *summary.control.transient] == ["L0H0", "L0H1"]
    assert summary.control.faded == ("M0",)
    assert f"the behaviour moved by {summary.control.growth} logits" in summary.supported
    assert f"scores carry {summary.control.wiring}; " in summary.supported
    assert "2 heads emerged (L0H0, L0H1) and 1 MLP faded (M0)" in summary.supported
    assert summed(paths).control is None


@pytest.mark.parametrize(
    ("kept", "null", "word"),
    [
        ((1.0, 0.98, 1.02), (0.99, 0.97, 1.01), "the old wires suffice"),
        ((0.5, 0.45, 0.55), (0.96, 0.9, 1.0), "the old wires do not suffice"),
        ((0.88, 0.86, 0.9), (1.0, 0.99, 1.01), "the old wires carry most of it, not all"),
        ((0.93, 0.91, 0.95), (1.0, 0.99, 1.01), "the old wires suffice"),
        ((0.97, 0.965, 0.975), (0.99, 0.985, 0.995), "the old wires suffice"),
        # what is not sure is said of neither: too few pairs for the null, or for the kept
        ((0.6, 0.45, 0.75), (0.9, 0.4, 1.2), "cannot be told"),
        ((0.85, 0.6, 1.1), (0.99, 0.97, 1.01), "cannot be told"),
        ((0.3, 0.25, 0.35), (0.3, 0.2, 0.4), "cannot be told"),
        ((np.nan,) * 3, (np.nan,) * 3, "is not known"),
    ],
)
def test_wires_are_called_old_only_where_the_loss_is_surely_small(
    kept: tuple[float, ...], null: tuple[float, ...], word: str
) -> None:
    assert word in with_wiring(kept, null).rewired


def test_old_wires_do_not_suffice_where_random_ones_do() -> None:
    for random, word in (
        (2.1, ": the old wires suffice"),
        (1.3, "of 1.3 times the edges do too, so"),
    ):
        analyses = [make_analysis(GRAPH), make_analysis(GRAPH, random_size=random)]
        summary = Summary.of(Timeline.of(records_of(GRAPH, analyses)), "cue").rewired
        assert word in summary and ("cannot be told" in summary) == (random < 2)


@pytest.mark.parametrize(
    ("by", "word"), [(1.5, "grew"), (0.5, "fell"), (1.0, "is not known to have changed")]
)
def test_a_behaviour_grew_or_fell_by_the_paired_interval(by: float, word: str) -> None:
    spread = 2 + torch.linspace(-1, 1, PAIRS)
    analyses = [make_analysis(GRAPH, clean=spread * gain - 2) for gain in (1.0, by)]
    summary = Summary.of(Timeline.of(records_of(GRAPH, analyses)), "cue")
    assert summary.change == word
    assert ("by -" in summary.grew) is False and (" by 1.00 (0." in summary.grew) == (by != 1)


@pytest.mark.parametrize(
    ("effects", "behaviour", "relative"),
    [
        (((0.12, 1.6), (0.1, 0.4)), (4.0, 1.0), ("L0H0",)),  # the other lost more
        (((0.12, 1.6), (0.4, 0.4)), (4.0, 1.0), ()),  # it emerged in logits too
        (((0.12, 1.6), (1.6, 1.6)), (4.0, 4.0), ()),
        (((0.4, 1.6), (0.5, 60.0)), (4.0, 60.0), ("L0H0",)),  # the other gained more
        (((0.4, 1.6), (0.0, 60.0)), (4.0, 60.0), ()),
    ],
)
def test_a_state_that_changed_by_share_alone_is_named(
    effects: Any, behaviour: tuple[float, float], relative: tuple[str, ...]
) -> None:
    analyses = []
    for of_nodes, whole in zip(effects, behaviour, strict=True):
        shares = torch.zeros(len(GRAPH.nodes))
        shares[:2] = torch.tensor(of_nodes) / 4  # a builder's behaviour is of 4 logits
        analyses.append(make_analysis(GRAPH, shares, clean=torch.full((PAIRS,), whole - 2)))
    summary = Summary.of(Timeline.of(records_of(GRAPH, analyses)), "cue")
    assert summary.relative == relative
    assert ("by share alone" in summary.carried) == bool(relative)


def test_a_node_that_grew_in_logits_in_one_direction_did_not_emerge_by_share_alone() -> None:
    analyses = []
    for whole, lost, restored in ((4.0, 0.16, 0.02), (1.0, 0.1, 0.1)):
        corrupt = torch.zeros(PAIRS, len(GRAPH.nodes))
        restore = corrupt.clone()
        corrupt[:, 0], restore[:, 0] = lost, restored
        clean = torch.full((PAIRS,), whole - 2)
        analyses.append(make_analysis(GRAPH, clean=clean, corrupt=corrupt, restore=restore))
    summary = Summary.of(Timeline.of(records_of(GRAPH, analyses)), "cue")
    assert "L0H0" in summary.cohorts and summary.relative == ()


def test_of_few_pairs_a_behaviour_rarely_grew_by_chance() -> None:
    generator, grew = torch.Generator().manual_seed(0), []
    nothing = torch.zeros(3, 3)
    for _ in range(60):
        clean = 4 + torch.randn(2, 3, generator=generator)
        analyses = [
            make_analysis(Graph(1, 2), clean=one, corrupted=torch.zeros(3), corrupt=nothing,
                          restore=nothing, attributed=nothing)
            for one in clean
        ]  # fmt: skip
        grew.append(Summary.of(Timeline.of(records_of(Graph(1, 2), analyses)), "cue").change)
    assert np.mean([word in ("grew", "fell") for word in grew]) <= 0.1


def test_nothing_emerges_with_a_behaviour_that_has_not_surely_grown() -> None:
    """A head carries half of it at both checkpoints; the first one's interval just holds 0."""
    noise = torch.randn(PAIRS, generator=torch.Generator().manual_seed(0))
    noise = (noise - noise.mean()) / noise.std()
    analyses = []
    for mean, deviation in ((0.4, 2.0), (0.8, 1.0)):
        behaviour = mean + deviation * noise
        effects = torch.zeros(PAIRS, len(GRAPH.nodes))
        effects[:, 0] = behaviour / 2
        analyses.append(
            make_analysis(GRAPH, clean=behaviour, corrupted=torch.zeros(PAIRS), corrupt=effects,
                          restore=effects, attributed=effects)
        )  # fmt: skip
    summary = Summary.of(Timeline.of(records_of(GRAPH, analyses)), "cue")
    assert (summary.began, summary.change) == ("absent", "is not known to have changed")
    assert not summary.cohorts and summary.supported.startswith("No state changed")
    assert "carried by 1 head without a history (L0H0)" in summary.carried


def test_who_works_against_it_without_a_history_does_not_carry_it() -> None:
    summary = summed({"L0H0": [0.4, 0.4], "L0H1": [-0.05, -0.9]}, noise=0.05)
    assert summary.against == summary.unsettled == ("L0H1",)
    assert "by 1 head from the start (L0H0); 1 head works against it (L0H1)" in summary.carried


def test_a_side_is_that_of_a_direction_in_which_it_is_sure() -> None:
    def summary_of(*pairs: tuple[float, float], noise: float) -> Summary:
        """L0H0's shares at checkpoints, lost and restored; the latter's spread is `noise`."""
        analyses = []
        for lost, restored in pairs:
            effects = torch.zeros(2, PAIRS, len(GRAPH.nodes))
            effects[0, :, 0] = 4 * lost
            effects[1, :, 0] = 4 * (restored + noise * torch.linspace(-1, 1, PAIRS))
            analyses.append(make_analysis(GRAPH, corrupt=effects[0], restore=effects[1]))
        return Summary.of(Timeline.of(records_of(GRAPH, analyses)), "cue")

    unsure = summary_of((0.10, -0.12), (0.10, -0.12), noise=2.0)
    assert unsure.against == () and "1 head from the start (L0H0)" in unsure.carried
    assert summary_of((-0.10, 0.12), (-0.10, 0.12), noise=2.0).against == ("L0H0",)
    assert summary_of((0.30, -0.31), (0.30, -0.29), noise=0.0).crossed == ()


def test_a_node_left_out_cannot_be_told_below_the_threshold_it_was_screened_by() -> None:
    records = records_named(GRAPH, {"L0H0": [0.016, 0.045], "M0": [0.4] * 2}, noise=0.001)
    first = records[0].analyses["cue"]
    corrupt = first.nodes.corrupt.clone()
    corrupt[:, 0] = torch.nan
    nodes = replace(first.nodes, corrupt=corrupt, restore=corrupt)
    records[0] = replace(records[0], analyses={"cue": replace(first, nodes=nodes)})
    for share, undecided in ((0.05, ()), (0.02, ()), (0.01, ("L0H0",))):
        summary = Summary.of(Timeline.of(records, Thresholds(share=share)), "cue")
        assert summary.undecided == undecided
        assert ("L0H0" in summary.cohorts) == (share == 0.02)


def test_a_node_that_was_away_for_a_while_has_changed_its_state() -> None:
    summary = summed({"L0H0": [0.4, 0, 0.4, 0.06, 0.02], "M0": [0.4] * 5}, noise=0.001)
    assert summary.lapsed == ("L0H0",) and "No state changed" not in summary.supported
    control = Timeline.of(records_named(GRAPH, {"L0H0": [0.4, 0, 0.4]}))
    assert "1 head faded (L0H0)" in summed({"M0": [0.4] * 3}, control).supported
    assert "no recruitment was found" not in summed({"L0H0": [0, 0.4, 0]}).carried


def test_all_at_once_is_said_of_the_nodes_that_it_was_measured_of() -> None:
    records = [
        replace(record, analyses={"cue": replace(one, nodes=replace(
            one.nodes,
            together=torch.tensor([name in ("L0H0", "L0H1") for name in GRAPH.nodes]),
            together_corrupt=torch.full((PAIRS,), 2.0),
        ))})
        for record in records_named(GRAPH, {"L0H0": [0.4, 0.4], "L0H1": [0.1, 0.1]})
        for one in record.analyses.values()
    ]  # fmt: skip
    assert "surely active today lose 0.50" in Summary.of(Timeline.of(records), "cue").carried
    stricter = Timeline.of(records, Thresholds(share=0.2))
    assert "lose" not in Summary.of(stricter, "cue").carried


def test_an_absent_behaviour_is_carried_by_nothing() -> None:
    gone = make_analysis(GRAPH, clean=torch.full((PAIRS,), -2.0))
    records = records_named(GRAPH, {"L0H0": [0.4]})
    summary = Summary.of(
        Timeline.of(records_of(GRAPH, [records[0].analyses["cue"], gone])), "cue"
    )  # fmt: skip
    assert summary.carried.startswith("It is not surely there at the end, so who carries it")


def test_what_comes_with_the_behaviour_was_not_recruited() -> None:
    absent = make_analysis(GRAPH, clean=torch.full((PAIRS,), -2.0))
    there = records_named(GRAPH, {"L0H0": [0.4]})[0].analyses["cue"]
    summary = Summary.of(Timeline.of(records_of(GRAPH, [absent, there])), "cue")
    assert summary.carriers["with the behaviour"] == ("L0H0",) and not summary.carriers["recruited"]
    assert "1 head that emerged with the behaviour (L0H0 since step 10)" in summary.carried


def test_one_checkpoint_says_nothing_of_change() -> None:
    summary = summed({"L0H0": [0.4], "L0H1": [-0.4]})
    assert "carried by L0H0; nothing can be said yet of change" in summary.sentence


def test_weaknesses_and_sound_records_are_counted() -> None:
    records = records_by(GRAPH, np.zeros((3, 6)), faithfulness=0.4)
    summary = Summary.of(Timeline.of(records), "cue")
    assert summary.sound == 0 and summary.weaknesses == ["faithfulness 0.40"]
    assert "0 of 3 records are sound, the last is not: faithfulness 0.40" in summary.supported


def test_a_behaviour_that_probabilities_hardly_show_is_called_faint() -> None:
    loud = make_analysis(GRAPH)
    faint = make_analysis(GRAPH, clean_probability=torch.full((PAIRS,), 0.11))
    for first, last, shown in ((loud, loud, False), (loud, faint, False), (faint, faint, True)):
        summary = Summary.of(Timeline.of(records_of(GRAPH, [first, last])), "cue")
        assert ("It is faint" in summary.grew) == shown


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        ((0.0012, 0.0008, 0.0016), "0.001 (0.001 to 0.002)"),
        ((-0.0003, -0.0004, -0.00002), "-0.00030 (-0.00040 to -0.00002)"),
        ((0.01, 0.004, 0.016), "0.010 (0.004 to 0.016)"),
        ((0.0, 0.0, 0.0), "0.00 (0.00 to 0.00)"),
        ((0.001, -0.001, 0.003), "0.00 (-0.00 to 0.00)"),
        ((12.34, 9.876, 15.0), "12.3 (9.88 to 15.0)"),
    ],
)
def test_an_interval_without_0_is_not_written_as_one_that_touches_it(
    figure: tuple[float, float, float], text: str
) -> None:
    assert str(Figure(*figure)) == text
