"""The pictures and the terminal's view of a run."""

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rich.console import Console

from tests.builders.analyses import make_analysis
from tracking import Record, Timeline
from tracking.model.graph import Graph
from tracking.timeline.activity import null_turnover
from tracking.timeline.coupling import Coupling
from tracking.timeline.survival import cohort_table, survival
from tracking.views import drawing, figures, papers
from tracking.views.drawing import PALE, shades
from tracking.views.figures import (
    cohorts,
    coupling,
    faithfulness_curve,
    head_map,
    picture,
    turnover,
    write_picture,
)
from tracking.views.palette import LOOKS
from tracking.views.terminal import COUNTS, Table


def timeline(
    histories: Sequence[Sequence[float]], more: Mapping[int, dict[str, Any]] = MappingProxyType({})
) -> Timeline:
    """On 2 layers of 2 heads: by step and head, the membership of a head with a large effect.

    `more` has fields that differ at a place in the history.
    """
    records = []
    for index, memberships in enumerate(histories):
        analysis = make_analysis(
            Graph(2, 2),
            in_circuit=torch.arange(10)[:, None] < 10 * torch.tensor(memberships),
            effect=torch.full((8, 4), 0.5),
            **{"gap": 0.2 if index else 0.01, **more.get(index, {})},
        )
        records.append(
            Record(10 * index, 2, 2, "0", {"cue": analysis}, None if index == 0 else index / 10)
        )
    return Timeline.of(records)


RUN = [[1, 0, 0, 0], [1, 1, 0, 1], [1, 1, 0.5, 0]]


def lines(told: Timeline) -> list[str]:
    console = Console(file=io.StringIO(), width=200)
    table = Table(console)
    for record in told.records:
        table.show(told, record.step)
    table.close(told)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_a_row_per_step_says_what_the_counts_say() -> None:
    title, *rows = lines(timeline(RUN))[:4]
    after = ["faithful", "jaccard", "gap", "verdict", "seconds"]
    assert title.split() == ["step", "reward", "pairs", *COUNTS, *after]
    cells = [row.split() for row in rows]
    assert cells[0][:10] == ["0", "-", "cue", "16", "1", "0", "0", "0", "0", "0"]
    assert cells[0][10:] == ["0.90±0.05", "0.80", "1.0%", "sound", "0.0"]
    assert cells[2][:10] == ["20", "0.200", "cue", "16", "2", "1", "0", "1", "1", "1"]
    assert [row[12:14] for row in cells[1:]] == [["20.0%", "unconverged"]] * 2


def test_the_table_says_in_one_word_what_a_record_is_worth() -> None:
    more = {0: {"difference_low": 0.0, "faithfulness": float("nan")}, 1: {"jaccard": 0.4}}
    cells = [row.split() for row in lines(timeline(RUN, more))[1:4]]
    assert [row[13] for row in cells] == ["absent", "weak", "unconverged"]
    assert [row[10] for row in cells] == ["-", "0.90±0.05", "0.90±0.05"]
    assert [row[11] for row in cells] == ["0.80", "0.40", "0.80"]


def test_the_map_shows_every_heads_state_by_its_sign() -> None:
    last, first = (line.split()[1:] for line in lines(timeline(RUN))[-4:-2])
    assert first == [LOOKS["retained"].sign, LOOKS["surviving"].sign]
    assert last == ["?", LOOKS["pruned"].sign]


def test_signs_and_colours_tell_states_apart() -> None:
    shown = [state for state in LOOKS if state != "base"]
    assert len({LOOKS[state].sign for state in shown}) == len(shown)
    assert len({LOOKS[state].color for state in shown}) == len(shown)


def test_bars_add_up_to_the_active_heads(tmp_path: Path) -> None:
    told = timeline(RUN)
    figure = picture(told)
    stack, raster, reward = figure.axes
    heights = np.zeros(3)
    for container in stack.containers:
        heights += [bar.get_height() for bar in container]  # type: ignore[attr-defined]
    assert heights.tolist() == told.counts["active"].tolist() == [1, 3, 2]
    named = [label.get_text() for label in raster.get_yticklabels()]
    assert named == ["L0H0", "L0H1", "L1H1", "L1H0"]  # the last was never more than undecided
    assert reward.lines[0].get_ydata()[1:].tolist() == [0.1, 0.2]  # type: ignore[union-attr]
    path = write_picture(told, tmp_path / "report.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_raster_shows_what_ever_mattered_by_cohort_then_by_place() -> None:
    graph = Graph(1, 12)
    steps = [[0, 0, 1] + [0] * 7 + [1, 0.5], [1] + [0] * 11, [1, 0.5] + [0] * 10]
    records = [
        Record(10 * index, 1, 12, "0", {"cue": make_analysis(
            graph,
            in_circuit=torch.arange(10)[:, None] < 10 * torch.tensor(row),
            effect=torch.full((8, 12), 0.5),
        )})
        for index, row in enumerate(steps)
    ]  # fmt: skip
    heads = Timeline.of(records).heads
    assert drawing.shown(heads) == ["L0H2", "L0H10", "L0H0", "L0H1", "L0H11"]


@pytest.mark.parametrize("histories", [[[1, 1, 1, 1]], [[0, 0, 0, 0]], [[0, 0, 0, 0]] * 3])
def test_a_run_with_little_to_show_still_makes_a_picture(
    histories: list[list[float]], tmp_path: Path
) -> None:
    write_picture(timeline(histories), tmp_path / "report.png")
    head_map(timeline(histories), 0, "cue")


def veils(figure: Figure) -> list[list[float]]:
    """The pale spans of each part of a figure, from where to where on the axis of steps."""
    return [
        [span.get_x(), span.get_x() + span.get_width()]
        for axes in figure.axes
        for span in axes.patches
        if isinstance(span, Rectangle) and span.get_alpha() == PALE
    ]


def test_the_heads_of_a_weak_record_are_pale_and_no_others() -> None:
    told = timeline(RUN, {1: {"faithfulness": 0.6}})
    assert veils(picture(told)) == [[5, 15], [5, 15]]  # in the bars and in the raster
    assert len(veils(head_map(told, 10, "cue"))) == 1
    assert veils(head_map(told, 20, "cue")) == []
    assert veils(picture(timeline(RUN))) == []
    assert [head_map(told, step, "cue").axes[0].get_title() for step in (0, 10, 20)] == [
        "'cue' pairs, step 0: sound",
        "'cue' pairs, step 10: weak",
        "'cue' pairs, step 20: unconverged",
    ]


LIVES = [[1, 0, 0, 0], [1, 1, 0, 1], [1, 1, 0, 0], [1, 1, 1, 1]]


def test_the_map_has_layer_0_lowest_hatching_a_legend_and_legible_ink() -> None:
    figure = head_map(timeline(RUN), 20, "cue")
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    assert low < high
    hatched = [one.get_xy() for one in axes.patches if one.get_hatch()]  # type: ignore[attr-defined]
    assert hatched == [(-0.5, 0.5)]  # L1H0
    said = {text.xy: (text.get_text(), text.get_color()) for text in axes.texts}  # type: ignore[attr-defined]
    assert said[0, 0] == ("1.0", "white")  # retained, dark blue
    assert said[0, 1][0] == "0.5"
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["retained", "surviving", "pruned", "inactive", "undecided"]


@pytest.mark.parametrize("veil", [0, PALE])
@pytest.mark.parametrize("color", [look.color for look in LOOKS.values()])
def test_ink_has_the_contrast_that_text_needs(color: str, veil: float) -> None:
    def light(parts: np.ndarray) -> float:
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    ground = light(np.array(to_rgb(color)) * (1 - veil) + veil)
    ink = light(np.array(to_rgb(drawing.ink(color, veil))))
    assert (max(ground, ink) + 0.05) / (min(ground, ink) + 0.05) > 4.5


def test_the_reward_drawn_is_of_one_name() -> None:
    told = timeline(RUN)
    names = ["loss", "eval_mean_token_accuracy", "loss"]
    values = [2.0, 0.5, 1.0]
    told = replace(told, counts=told.counts.assign(reward=values, reward_name=names))
    reward = picture(told).axes[2]
    assert reward.get_ylabel() == "loss"
    np.testing.assert_array_equal(reward.lines[0].get_ydata(), [2.0, np.nan, 1.0])


def heights(axes: Axes) -> dict[str, list[float]]:
    """The bars of a stack by what they are called, from left to right."""
    return {
        str(bars.get_label()): [bar.get_height() for bar in bars]  # type: ignore[attr-defined]
        for bars in axes.containers
    }


def test_cohorts_are_stacked_as_the_cohort_table_says() -> None:
    told = timeline(LIVES)
    figure = cohorts(told, "cue")
    table = cohort_table(told.heads, "cue")
    expected = {
        str(cohort): [int(rows.loc[rows["step"] == step, "left"].sum()) for step in (0, 10, 20, 30)]
        for cohort, rows in table.groupby("cohort")
    }
    assert heights(figure.axes[0]) == expected == {"10": [0, 2, 1, 2], "30": [0, 0, 0, 1]}
    total = np.sum(list(expected.values()), axis=0).tolist()
    assert total == told.counts["emergent"].tolist()
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["30", "10"]  # as the stack stands


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.sampled_from([0, 0.5, 1]), min_size=4, max_size=4), min_size=1,
                max_size=5))  # fmt: skip
def test_a_stack_of_cohorts_is_as_high_as_the_emergent_heads(histories: list[list[float]]) -> None:
    told = timeline(histories)
    bars = list(heights(cohorts(told, "cue").axes[0]).values())
    total = np.sum(bars, axis=0) if bars else np.zeros(len(histories))
    assert total.tolist() == told.counts["emergent"].tolist()


def test_the_survival_curve_is_the_estimate_with_its_heads_at_risk() -> None:
    told = timeline(LIVES)
    curve = survival(told.heads, "cue")
    above, below = figures.survival_curve(told, "cue").axes
    drawn = above.lines[0]
    assert drawn.get_drawstyle() == "steps-post"
    np.testing.assert_array_equal(drawn.get_xdata(), curve["time"])
    np.testing.assert_array_equal(drawn.get_ydata(), curve["survival"])
    said = [(text.get_position()[0], text.get_text()) for text in below.texts]
    rows = zip(curve["time"], curve["at_risk"], strict=True)
    assert said == [(time, str(risk)) for time, risk in rows]


def test_where_nothing_emerged_the_pictures_say_so() -> None:
    told = timeline([[1, 0, 0, 0]] * 3)
    for figure in (cohorts(told, "cue"), figures.survival_curve(told, "cue")):
        assert [text.get_text() for text in figure.axes[0].texts] == ["no head emerged"]


def test_shades_of_an_order_differ_and_get_lighter() -> None:
    colors = np.array([to_rgb(color) for color in shades(8)])
    assert (np.diff(colors @ [0.2126, 0.7152, 0.0722]) > 0.02).all()
    assert shades(0) == []


def test_turnover_and_faithfulness_are_drawn_from_the_records() -> None:
    halves = {"half_membership": torch.rand(20, 2, 4), "half_effect": torch.ones(20, 2, 4)}
    told = timeline(LIVES, {index: halves for index in range(4)})
    analyses = [record.analyses["cue"] for record in told.records]
    null = [float(null_turnover(one, told.thresholds).mean()) for one in analyses]
    counts = told.counts
    lines = {line.get_label(): line for line in turnover(told, "cue").axes[0].lines}
    np.testing.assert_array_equal(lines["turnover"].get_ydata(), counts["turnover"])
    assert np.asarray(lines["null, mean"].get_ydata()) == pytest.approx(null)
    curve = told.records[-1].analyses["cue"].circuit.curve
    drawn = faithfulness_curve(told, "cue").axes[0].lines[0]
    np.testing.assert_array_equal(drawn.get_xydata(), curve[:, :2])


def test_a_coupling_of_too_few_checkpoints_is_not_drawn() -> None:
    figure = coupling(timeline(LIVES), "cue")
    for axes in figure.axes:
        assert [text.get_text() for text in axes.texts] == ["too few checkpoints (3)"]


def test_the_coupling_drawn_is_the_table() -> None:
    generator = np.random.default_rng(0)
    told = timeline([[1, *row] for row in generator.integers(0, 2, (12, 3)).tolist()])
    table = Coupling.of(told.heads, told.counts, "cue").table
    for axes, against in zip(coupling(told, "cue").axes, ("reward", "change"), strict=True):
        for line in axes.lines[1:]:  # the first is zero
            rows = table[(table["against"] == against) & (table["heads"] == line.get_label())]
            np.testing.assert_array_equal(line.get_ydata(), rows["correlation"])


def test_runs_are_exported_as_pictures_and_their_data(tmp_path: Path) -> None:
    told = timeline(LIVES)
    paths = papers.export({"one": told, "two": timeline(RUN)}, tmp_path / "new")
    assert sorted(paths) == sorted((tmp_path / "new").iterdir())
    names = {path.name for path in paths}
    plots = ("map", "cohorts", "survival", "faithfulness", "turnover", "coupling")
    wanted = [f"{run}.cue.{plot}" for run in ("one", "two") for plot in plots]
    wanted += ["one.picture", "two.picture", "together"]
    tables = {f"{name}.csv" for name in (*wanted, "one.heads", "two.heads")}
    assert names == tables | {f"{name}.{end}" for name in wanted for end in ("png", "svg")}
    folder = tmp_path / "new"
    for name, table in (
        ("picture", told.counts),
        ("heads", told.heads),
        ("cue.cohorts", cohort_table(told.heads, "cue")),
        ("cue.survival", survival(told.heads, "cue")),
    ):
        said = pd.read_csv(folder / f"one.{name}.csv", keep_default_na=False, na_values=[""])
        expected = pd.read_csv(
            io.StringIO(table.to_csv(index=False)), keep_default_na=False, na_values=[""]
        )
        pd.testing.assert_frame_equal(said, expected)
    together = pd.read_csv(folder / "together.csv")
    assert together["run"].tolist() == ["one"] * 4 + ["two"] * 3
    assert together["emergent"].tolist() == [0, 2, 1, 3, 0, 2, 1]
    words = {
        element.text for element in ET.parse(folder / "one.cue.cohorts.svg").iter()
        if element.tag.endswith("}text")
    }  # fmt: skip
    assert {"'cue' pairs: emergent heads by cohort", "active heads", "cohort (step)"} <= words


def test_the_same_records_export_the_same_bytes(tmp_path: Path) -> None:
    one, two = (
        {path.name: path.read_bytes() for path in papers.export({"a": timeline(RUN)}, folder)}
        for folder in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two
    assert "together.csv" not in one


@given(st.lists(st.text(max_size=80), unique=True, max_size=6))
def test_file_names_are_safe_and_apart_whatever_the_names(names: list[str]) -> None:
    slugs = papers._slugs(names)
    assert len({slug.lower() for slug in slugs}) == len(names)
    for slug in slugs:
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,70}", slug)


def test_a_run_called_like_a_path_stays_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    paths = papers.export({"../up/.. x": timeline([[1, 0, 0, 0]])}, folder)
    assert {path.parent for path in paths} == {folder}
    assert list(tmp_path.iterdir()) == [folder]
