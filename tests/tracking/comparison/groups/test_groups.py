"""Groups differ where their runs do, in pairs where they share bases."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.builders.analyses import PAIRS, make_analysis
from tests.builders.runs import write_run
from tests.builders.timelines import records_named, records_of
from tracking.comparison.groups.figures import Run, figures
from tracking.comparison.groups.groups import (
    compared,
    difference_table,
    group_table,
    groups_section,
    run_table,
)
from tracking.model.graph import Graph
from tracking.timeline.activity import Thresholds
from tracking.timeline.timeline import Timeline

GRAPH = Graph(2, 3)


def run(name: str, base: str, **shares: tuple[float, float]) -> Run:
    """A run of two checkpoints with these shares."""
    named = {node: list(path) for node, path in shares.items()}
    return Run(name, base, Timeline.of(records_named(GRAPH, named)))


def rows(group: str, values: dict[str, float]) -> pd.DataFrame:
    """A figure of one run of each base."""
    return pd.DataFrame(
        {"contrast": "cue", "figure": "share of M1", "group": group, "run": list(values),
         "base": list(values), "start": list(values), "value": list(values.values())}
    )  # fmt: skip


def test_figures_count_what_is_active_and_sum_what_layers_lose() -> None:
    one = run("r", "b", L0H0=(0.3, 0.3), L0H1=(0.0, 0.2), M1=(0.0, 0.4))
    values = figures(one).set_index("figure")["value"]
    assert (values["heads active"], values["heads emerged"]) == (2, 1)
    assert (values["MLPs active"], values["MLPs emerged"], values["MLPs faded"]) == (1, 1, 0)
    assert values["share of heads in layer 0"] == pytest.approx(0.5, abs=1e-4)
    assert values["share of M1"] == pytest.approx(0.4, abs=1e-4)
    assert values["growth"] == pytest.approx(0, abs=1e-4)


def test_reward_and_weights_are_said_once_for_all_contrasts() -> None:
    both = {"cue": make_analysis(GRAPH), "next": make_analysis(GRAPH)}
    records = [replace(record, analyses=both) for record in records_of(GRAPH, [both["cue"]] * 2)]
    one = Run("r", "b", Timeline.of(records))
    table = figures(one)
    assert [*table[table["contrast"] == ""]["figure"]] == ["reward", "weights moved"]
    assert table[table["contrast"] != ""].groupby("figure").size().eq(2).all()


def test_a_run_without_the_behaviour_has_no_shares_of_it() -> None:
    gone = make_analysis(GRAPH, clean=torch.full((PAIRS,), -2.0))
    one = Run("r", "b", Timeline.of(records_of(GRAPH, [gone, gone])))
    values = figures(one).set_index("figure")["value"]
    assert values.filter(regex="^share|^heads|^MLPs").isna().all()
    assert values["behaviour"] < 0.01


def test_runs_of_unknown_seeds_are_no_pairs_by_seed() -> None:
    groups = {name: [run(f"{name}{n}", "b", M1=(0, 0.3)) for n in range(3)] for name in "ab"}
    assert run_table(groups)["start"].nunique() == 6


def test_runs_of_shared_bases_are_paired_and_what_bases_differ_in_falls_out() -> None:
    bases = {f"b{n}": float(n) for n in range(5)}
    more = {base: value + 0.5 + 0.01 * np.sin(value) for base, value in bases.items()}
    by, paired, runs = compared(rows("a", bases), rows("b", more))
    assert paired and runs == 5 and by.p < 1e-4 and by.high - by.low < 0.1
    other = {f"c{base}": value for base, value in more.items()}
    by, paired, runs = compared(rows("a", bases), rows("b", other))
    assert not paired and runs == 10 and by.p > 0.5


def test_runs_of_one_base_and_seed_are_a_pair_each() -> None:
    seeds = [
        {f"{group}{n}": float(n + shift) for n in range(4)} for group, shift in (("a", 0), ("b", 2))
    ]
    ours, theirs = (rows(group, values) for group, values in zip("ab", seeds, strict=True))
    for one in (ours, theirs):
        one["base"], one["start"] = ["x", "x", "x", "y"], [f"seed {n}" for n in range(4)]
    by, paired, runs = compared(ours, theirs)
    assert (paired, runs, by.value) == ("start", 4, pytest.approx(2))


def test_several_runs_of_a_base_are_one_pair() -> None:
    twice = pd.concat([rows("b", {"x": 1.0, "y": 2.0}), rows("b", {"x": 3.0, "y": 2.0})])
    by, paired, runs = compared(rows("a", {"x": 0.0, "y": 0.5}), twice)
    assert paired and runs == 2 and by.value == pytest.approx(1.75)


def test_groups_of_like_runs_rarely_differ() -> None:
    result = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        parts = [
            rows(group, {f"b{n}": generator.standard_normal() for n in range(6)}).assign(figure=f)
            for group in "ab"
            for f in ("x", "y", "z")
        ]
        result += difference_table(pd.concat(parts), Thresholds())["differs"].any()
    assert result <= 10  # of 100; 5 are expected


def test_a_share_that_differs_by_less_than_the_threshold_is_not_said_to() -> None:
    bases = {f"b{n}": 0.3 + 0.001 * n for n in range(5)}
    near = {base: value + 0.04 + 0.0001 * (value > 0.302) for base, value in bases.items()}
    far = {base: value + 0.06 + 0.0001 * (value > 0.302) for base, value in bases.items()}
    both = pd.concat([rows("a", bases), rows("near", near), rows("far", far)])
    table = difference_table(both, Thresholds()).set_index(["against", "group"])
    assert not table.loc[("a", "near"), "differs"] and table.loc[("a", "far"), "differs"]


def test_a_section_says_how_groups_were_compared_and_what_could_have_been_shown() -> None:
    groups = {
        "a": [run(f"a{n}", f"b{n}", M1=(0.0, 0.2 + 0.01 * n)) for n in range(4)],
        "b": [run(f"b{n}", f"b{n}", M1=(0.0, 0.5 + 0.02 * n)) for n in range(4)],
    }
    section = groups_section(groups, Thresholds())
    assert section.sentences[0] == "b (4 runs) and a (4) are paired by base: 4 pairs of 4 bases."
    assert any("share of M1 is higher in b than in a by 0.3" in one for one in section.sentences)
    assert not any("numbers of pairs" in one for one in section.sentences)
    counts = groups["a"][0].timeline.counts
    counts["pairs"] = 8
    assert any(
        "numbers of pairs (8, 16)" in one for one in groups_section(groups, Thresholds()).sentences
    )
    levels = group_table(section.tables["runs"]).set_index(["figure", "group"])
    assert levels.loc[("share of M1", "a"), "mean"] == pytest.approx(0.215, abs=1e-3)
    assert section.shown is not None and {"a", "b"} <= {*section.shown.columns}


@pytest.mark.parametrize(("by", "word"), [(0.0, "no difference"), (0.4, "no other difference")])
def test_what_is_not_shown_is_another_one_only_where_one_is(by: float, word: str) -> None:
    drawn = torch.rand(8, generator=torch.Generator().manual_seed(0)).tolist()
    groups = {
        name: [
            run(f"{name}{n}", f"b{n}", M1=(0.0, 0.2 + more * (1 + n / 50)), M0=(0.0, share))
            for n, share in enumerate(shares)
        ]
        for name, more, shares in (("a", 0.0, drawn[:4]), ("b", by, drawn[4:]))
    }
    sentences = groups_section(groups, Thresholds()).sentences
    assert any(f"{word} is shown" in one for one in sentences)


def test_random_runs_have_all_figures(tmp_path: Path) -> None:
    runs = [
        Run(n, n, Timeline.read(write_run(tmp_path / n, (0, s)))) for n, s in (("x", 7), ("y", 9))
    ]
    section = groups_section({"a": runs[:1], "b": runs[1:]}, Thresholds())
    assert "are not paired: they share no base" in section.sentences[0]
    assert not section.tables["group_differences"]["differs"].any()
