"""The pictures of a run."""

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
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
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox

from tests.builders.analyses import PAIRS, make_analysis
from tracking import Record, Timeline
from tracking.model.graph import Graph
from tracking.timeline.coupling import CAVEAT, Coupling
from tracking.timeline.survival import cohort_table, survival
from tracking.views import drawing, figures, papers
from tracking.views.drawing import PALE, shades
from tracking.views.figures import (
    WIRED,
    cohorts,
    coupling,
    faithfulness_curve,
    node_map,
    picture,
    turnover,
    wiring_curve,
    write_picture,
)
from tracking.views.palette import LOOKS


def timeline_of(
    histories: Sequence[Sequence[float]], more: Mapping[int, dict[str, Any]] = MappingProxyType({})
) -> Timeline:
    """On 1 layer of 3 heads and an MLP: the share of each by step; at 0.05 it cannot be told.

    `more` has fields that differ at a place in the history.
    """
    records = []
    for index, shares in enumerate(histories):
        first = {"wiring": None} if not index else {}
        analysis = make_analysis(GRAPH, torch.tensor(shares), 0.02, **first, **more.get(index, {}))
        records.append(
            Record(10 * index, 1, 3, "0", {"cue": analysis}, None if index == 0 else index / 10)
        )
    return Timeline.of(records)


GRAPH = Graph(1, 3)
RUN = [[0.5, 0.0, 0.0, 0.0], [0.5, 0.3, 0.0, 0.4], [0.0, 0.3, 0.05, 0.0]]
WEAK = {"faithfulness": 0.6}
ABSENT = {"clean": torch.full((PAIRS,), -2.0)}


def test_signs_and_colours_tell_states_apart() -> None:
    shown = [state for state in LOOKS if state != "base"]
    assert len({LOOKS[state].sign for state in shown}) == len(shown)
    assert len({LOOKS[state].color for state in shown}) == len(shown)
    assert {*drawing.MARKS} == {*LOOKS} - {"inactive", "undecided"}


def curves(axes: Axes) -> list[np.ndarray]:
    """What lines with more than two points show."""
    return [np.asarray(line.get_ydata()) for line in axes.lines if len(line.get_xdata()) > 2]  # type: ignore[arg-type]


def test_the_picture_shows_behaviour_reward_and_wiring_over_the_steps(tmp_path: Path) -> None:
    timeline = timeline_of(RUN)
    figure = picture(timeline)
    top, second, third = figure.axes[:3]
    columns = ("behaviour", "reward", "wiring_kept")
    for axes, column in zip((top, second, third), columns, strict=True):
        (line,) = curves(axes)
        np.testing.assert_array_equal(line, timeline.counts[column])
    assert len(top.collections) == 1 and len(third.collections) == 2  # bands, and the null's
    path = write_picture(timeline, tmp_path / "report.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def accuracy(*rows: tuple[int, str, float]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["step", "benchmark", "avg"])
    return table.assign(avg_low=table["avg"] - 0.1, avg_high=table["avg"] + 0.05)


def test_accuracy_stands_above_the_raster_where_benchmarks_were_solved() -> None:
    timeline = timeline_of(RUN)
    table = accuracy((0, "easy", 0.2), (0, "hard", 0.1), (30, "easy", 0.9), (30, "hard", 0.4))
    figure = picture(timeline, accuracy=table)
    panel = figure.axes[3]
    assert panel.get_ylabel() == "accuracy" and panel.get_xlim()[1] > 30
    for line, name in zip(panel.lines, ("easy", "hard"), strict=True):
        rows = table[table["benchmark"] == name]
        np.testing.assert_array_equal(line.get_xydata(), rows[["step", "avg"]])
        assert line.get_label() == name
    assert len({str(line.get_marker()) for line in panel.lines}) == len(panel.collections) == 2


def test_a_picture_without_benchmarks_is_the_same_bytes(tmp_path: Path) -> None:
    timeline = timeline_of(RUN)
    plain, empty = (tmp_path / name for name in ("plain.png", "empty.png"))
    write_picture(timeline, plain)
    write_picture(timeline, empty, accuracy())
    assert plain.read_bytes() == empty.read_bytes()


def test_the_step_axis_begins_at_0_and_has_whole_ticks() -> None:
    for histories in (RUN, RUN[:1]):
        for axes in picture(timeline_of(histories)).axes[:4]:
            low, high = axes.get_xlim()
            assert low == 0 < high
            ticks = axes.get_xticks()
            np.testing.assert_array_equal(ticks, np.round(ticks))


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=9, unique=True).map(sorted))
def test_cells_hold_their_step_and_none_begins_below_0(steps: list[int]) -> None:
    edges = drawing.bin_edges(np.array(steps))
    assert edges[0] >= 0 and (np.diff(edges) > 0).all()
    assert (edges[:-1] <= steps).all() and (steps < edges[1:]).all()


def test_the_raster_is_the_timelines_shares_states_and_doubts() -> None:
    timeline = timeline_of(RUN)
    below = picture(timeline).axes[3]
    names = [label.get_text() for label in below.get_yticklabels()]
    assert names == ["L0H0", "L0H1", "L0H2", "M0"]
    (mesh,) = [one for one in below.collections if isinstance(one, QuadMesh)]
    shares = timeline.nodes.pivot(index="node", columns="step", values="share").loc[names]
    np.testing.assert_array_equal(mesh.get_array(), shares)
    assert mesh.get_clim() == (-0.5, 0.5)
    low, middle, high = mesh.cmap([0.0, 0.5, 1.0])
    assert middle[:3].min() > 0.99 and low[0] > low[2] and high[2] > high[0]
    hatched = [one.get_xy() for one in below.patches if one.get_hatch()]  # type: ignore[attr-defined]
    assert hatched == [(15, 1.5)]  # L0H2 at step 20
    marks = [one for one in below.collections if not isinstance(one, QuadMesh)]
    placed = {(x, y) for one in marks for x, y in np.asarray(one.get_offsets()).tolist()}
    word = timeline.nodes.pivot(index="node", columns="step", values="state").loc[names]
    middles = {0: 2.5, 10: 10, 20: 20}
    assert placed == {
        (middles[step], row)
        for row, name in enumerate(names)
        for step in middles
        if word.at[name, step] in drawing.MARKS
    }
    words = [text.get_text() for text in picture(timeline).legends[0].get_texts()]
    states = ["base, retained", "new", "surviving", "faded", "pruned"]
    assert words == [*states, "cannot tell here, or says otherwise"]


def test_the_raster_has_heads_then_mlps_by_first_activity_then_place() -> None:
    shares = [[0.0, 0.3, 0.0, 0.3, 0.05], [0.3, 0.3, 0.0, 0.3, 0.05], [0.3, 0.3, 0.0, 0.3, 0.05]]
    graph = Graph(1, 4)
    records = [
        Record(10 * place, 1, 4, "0", {"cue": make_analysis(graph, torch.tensor(row), 0.02)})
        for place, row in enumerate(shares)
    ]
    assert drawing.shown(Timeline.of(records).nodes) == (["L0H1", "L0H3", "L0H0", "M0"], 0)


def test_of_many_rows_those_that_were_never_active_are_left_out() -> None:
    graph = Graph(4, 20)
    shares = torch.where(torch.arange(len(graph.nodes)) < 10, 0.4, 0.05)
    record = Record(0, 4, 20, "0", {"cue": make_analysis(graph, shares, 0.05)})
    rows, left_out = drawing.shown(Timeline.of([record]).nodes)
    assert rows == list(graph.nodes[:10]) and left_out == len(graph.nodes) - 10


@pytest.mark.parametrize("histories", [[[0.5] * 4], [[0.0] * 4], [[0.0] * 4] * 3])
def test_a_run_with_little_to_show_still_makes_a_picture(
    histories: list[list[float]], tmp_path: Path
) -> None:
    write_picture(timeline_of(histories), tmp_path / "report.png")
    node_map(timeline_of(histories), 0, "cue")


def veils(figure: Figure) -> list[list[float]]:
    """The pale spans of each part of a figure, from where to where on the axis of steps."""
    return [
        [span.get_x(), span.get_x() + span.get_width()]
        for axes in figure.axes
        for span in axes.patches
        if isinstance(span, Rectangle) and span.get_alpha() == PALE
    ]


def test_weak_and_absent_records_are_pale_and_no_others() -> None:
    timeline = timeline_of(RUN, {1: WEAK})
    assert veils(picture(timeline)) == [[5, 15]]  # of the raster
    assert veils(picture(timeline_of(RUN, {2: ABSENT}))) == [[15, 25]]
    assert len(veils(node_map(timeline, 10, "cue"))) == 1
    assert veils(node_map(timeline, 20, "cue")) == []
    assert veils(picture(timeline_of(RUN))) == []
    assert [node_map(timeline, step, "cue").axes[0].get_title() for step in (0, 10, 20)] == [
        "'cue' pairs, step 0: sound",
        "'cue' pairs, step 10: weak",
        "'cue' pairs, step 20: sound",
    ]


LIVES = [[0.3, 0, 0, 0], [0.3, 0.3, 0.3, 0], [0.3, 0.3, 0, 0], [0.3, 0.3, 0.3, 0.3]]


def boxes(figure: Figure) -> list[Bbox]:
    """Of a figure's panels with all their text, and of its legend, in dots."""
    canvas = drawing.canvas(figure, 100)
    canvas.draw()
    parts = [*figure.axes, *figure.legends]
    return [one for part in parts if (one := part.get_tightbbox(canvas.get_renderer()))]


def everything() -> Iterator[Figure]:
    """The pictures of a run of many nodes with a reward of many digits; and all states' signs."""
    large, generator = Graph(28, 12), torch.Generator().manual_seed(0)
    records = []
    for step in range(3):
        shares = 0.1 * torch.randn(28 * 13, generator=generator)
        shares[torch.rand(28 * 13, generator=generator) > 0.2] = 0
        more = {} if step else {"wiring": None}
        one = make_analysis(large, shares, 0.02, **more)
        reward = -299.87 * step if step else None
        records.append(Record(10_000 * step, 28, 12, "0", {"cue": one, "operand": one}, reward))
    yield picture(Timeline.of(records))
    yield node_map(Timeline.of(records), 10_000, "cue")
    figure, _ = drawing.panels([1.0], wide=4.4)
    drawing.legend(figure, pd.Series([*drawing.MARKS]))
    yield figure


def test_nothing_is_cut_off_and_nothing_overlaps() -> None:
    for figure in (*everything(), picture(timeline_of(RUN)), node_map(timeline_of(RUN), 20, "cue")):
        parts, page = boxes(figure), figure.bbox
        for place, one in enumerate(parts):
            assert page.x0 <= one.x0 and one.x1 <= page.x1, place
            assert page.y0 <= one.y0 and one.y1 <= page.y1, place
        assert not any(one.overlaps(other) for one, other in combinations(parts, 2))


def test_the_map_has_layer_0_lowest_the_mlp_apart_and_a_legend() -> None:
    timeline = timeline_of(RUN)
    figure = node_map(timeline, 20, "cue")
    axes = figure.axes[0]
    low, high = axes.get_ylim()
    assert low < high
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "2", "MLP"]
    (mesh,) = [one for one in axes.collections if isinstance(one, QuadMesh)]
    np.testing.assert_array_equal(mesh.get_array(), [timeline.at(20, "cue")["share"]])
    hatched = [one.get_xy() for one in axes.patches if one.get_hatch()]  # type: ignore[attr-defined]
    assert hatched == [(1.5, -0.5)]  # L0H2
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["surviving", "faded", "pruned", "cannot tell here, or says otherwise"]


def test_the_reward_drawn_is_of_one_name() -> None:
    timeline = timeline_of(RUN)
    names = ["loss", "eval_mean_token_accuracy", "loss"]
    values = [2.0, 0.5, 1.0]
    timeline = replace(timeline, counts=timeline.counts.assign(reward=values, reward_name=names))
    reward = picture(timeline).axes[1]
    assert reward.get_ylabel() == "loss"
    np.testing.assert_array_equal(reward.lines[0].get_ydata(), [2.0, np.nan, 1.0])


def heights(axes: Axes) -> dict[str, list[float]]:
    """The bars of a stack by what they are called, from left to right."""
    return {
        str(bars.get_label()): [bar.get_height() for bar in bars]  # type: ignore[attr-defined]
        for bars in axes.containers
    }


def test_cohorts_are_stacked_as_the_cohort_table_says() -> None:
    timeline = timeline_of(LIVES)
    figure = cohorts(timeline, "cue")
    table = cohort_table(timeline.nodes, "cue")
    expected = {
        str(cohort): [int(rows.loc[rows["step"] == step, "left"].sum()) for step in (0, 10, 20, 30)]
        for cohort, rows in table.groupby("cohort")
    }
    assert heights(figure.axes[0]) == expected == {"10": [0, 2, 1, 2]}
    total = np.sum(list(expected.values()), axis=0).tolist()
    assert total == timeline.counts["emergent"].tolist()
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["10"]


@settings(max_examples=20)
@given(st.lists(st.lists(st.sampled_from([0, 0.05, 0.3]), min_size=4, max_size=4), min_size=1,
                max_size=5))  # fmt: skip
def test_a_stack_of_cohorts_is_as_high_as_the_emergent_heads(histories: list[list[float]]) -> None:
    timeline = timeline_of(histories)
    bars = list(heights(cohorts(timeline, "cue").axes[0]).values())
    total = np.sum(bars, axis=0) if bars else np.zeros(len(histories))
    assert total.tolist() == timeline.counts["emergent"].tolist()


def test_the_survival_curve_is_the_estimate_with_its_heads_at_risk() -> None:
    timeline = timeline_of(LIVES)
    curve = survival(timeline.nodes, "cue")
    above, below = figures.survival_curve(timeline, "cue").axes
    drawn = above.lines[0]
    assert drawn.get_drawstyle() == "steps-post"
    np.testing.assert_array_equal(drawn.get_xdata(), curve["time"])
    np.testing.assert_array_equal(drawn.get_ydata(), curve["survival"])
    labels = [(text.get_position()[0], text.get_text()) for text in below.texts]
    rows = zip(curve["time"], curve["at_risk"], strict=True)
    assert labels == [(time, str(risk)) for time, risk in rows]


def test_where_nothing_emerged_the_pictures_say_so() -> None:
    timeline = timeline_of([[0.3, 0, 0, 0]] * 3)
    for figure in (cohorts(timeline, "cue"), figures.survival_curve(timeline, "cue")):
        assert [text.get_text() for text in figure.axes[0].texts] == ["no head emerged"]


def test_shades_of_an_order_differ_and_get_lighter() -> None:
    colors = np.array([to_rgb(color) for color in shades(8)])
    assert (np.diff(colors @ [0.2126, 0.7152, 0.0722]) > 0.02).all()
    assert shades(0) == []


def test_turnover_and_its_null_are_drawn_with_their_bands() -> None:
    entries = {
        "entries": torch.randint(1, 20, (50, 4)),
    }
    timeline = timeline_of(LIVES, {index: entries for index in range(4)})
    *panels, less = turnover(timeline, "cue").axes
    below = {line.get_label(): line for line in less.lines}
    for axes, prefix, what in zip(panels, ("", "edge_"), ("heads", "edges"), strict=True):
        lines = {line.get_label(): line for line in axes.lines}
        for line, column in (
            (lines["turnover"], "turnover"),
            (lines["null, mean"], "null"),
            (below[what], "turnover_less_null"),
        ):
            np.testing.assert_array_equal(line.get_ydata(), timeline.counts[f"{prefix}{column}"])
        assert len(axes.collections) == 2
    assert timeline.counts["null"].min() > 0


def test_curves_of_faithfulness_and_wiring_are_the_last_records() -> None:
    timeline = timeline_of(LIVES)
    analysis = timeline.records[-1].analyses["cue"]
    drawn = faithfulness_curve(timeline, "cue").axes[0].lines[0]
    np.testing.assert_array_equal(drawn.get_ydata(), analysis.circuit.curve[:, 1])
    lines = {line.get_label(): line for line in wiring_curve(timeline, "cue").axes[0].lines}
    assert analysis.wiring is not None
    for name, (label, _, _) in WIRED.items():
        line = lines[label.format(0)]
        np.testing.assert_array_equal(line.get_ydata(), getattr(analysis.wiring, name))
        np.testing.assert_array_equal(line.get_xdata(), analysis.wiring.sizes)


def test_a_run_that_begins_later_names_its_first_step() -> None:
    records = [replace(one, step=one.step + 7) for one in timeline_of(LIVES).records]
    timeline = Timeline.of(records)
    assert "step 7's ranking" in [
        line.get_label() for line in wiring_curve(timeline, "cue").axes[0].lines
    ]
    (one,) = picture(Timeline.of(records[:1])).axes[2].texts
    assert one.get_text() == "step 7's wiring was compared at no checkpoint"


def test_a_first_record_has_no_wiring_and_its_figures_say_so() -> None:
    timeline = timeline_of(LIVES[:1])
    for axes in (wiring_curve(timeline, "cue").axes[0], picture(timeline).axes[2]):
        assert any("step 0's wiring" in text.get_text() for text in axes.texts)


def test_coupling_is_drawn_from_its_table_with_its_caveat() -> None:
    rows = [LIVES[place % 4] for place in range(12)]
    timeline = timeline_of(
        rows, {place: {"clean": torch.full((PAIRS,), 2.0 + place % 3)} for place in range(12)}
    )
    table = Coupling.of(timeline.nodes, timeline.counts, "cue").table
    figure = coupling(timeline, "cue")
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    for series, of_series in table.groupby("series"):
        np.testing.assert_array_equal(lines[series].get_ydata(), of_series["correlation"])
    assert CAVEAT in {text.get_text() for text in figure.texts}
    assert coupling(timeline_of(RUN), "cue").axes[0].texts[0].get_text().startswith("too few")


def test_runs_are_exported_as_pictures_and_their_data(tmp_path: Path) -> None:
    timeline, solved = timeline_of(LIVES), {"one": accuracy((0, "easy", 0.2)), "two": accuracy()}
    paths = papers.export({"one": timeline, "two": timeline_of(RUN)}, tmp_path / "new", solved)
    assert sorted(paths) == sorted((tmp_path / "new").iterdir())
    names = {path.name for path in paths}
    plots = ("map", "cohorts", "survival", "faithfulness", "wiring", "turnover", "coupling")
    wanted = [f"{run}.cue.{plot}" for run in ("one", "two") for plot in plots]
    wanted += ["one.picture", "two.picture", "together"]
    tables = {f"{name}.csv" for name in (*wanted, "one.nodes", "two.nodes", "one.accuracy")}
    assert names == tables | {f"{name}.{end}" for name in wanted for end in ("png", "svg")}
    folder = tmp_path / "new"
    for name, table in (
        ("picture", timeline.counts),
        ("nodes", timeline.nodes),
        ("accuracy", solved["one"]),
        ("cue.cohorts", cohort_table(timeline.nodes, "cue")),
        ("cue.survival", survival(timeline.nodes, "cue")),
    ):
        data = pd.read_csv(folder / f"one.{name}.csv", keep_default_na=False, na_values=[""])
        expected = pd.read_csv(
            io.StringIO(table.to_csv(index=False)), keep_default_na=False, na_values=[""]
        )
        pd.testing.assert_frame_equal(data, expected)
    together = pd.read_csv(folder / "together.csv")
    assert together["run"].tolist() == ["one"] * 4 + ["two"] * 3
    assert together["behaviour"].tolist() == pytest.approx([4.0] * 7)
    words = {
        element.text for element in ET.parse(folder / "one.cue.cohorts.svg").iter()
        if element.tag.endswith("}text")
    }  # fmt: skip
    assert {"'cue' pairs: emergent heads by cohort", "active heads", "cohort (step)"} <= words


def test_the_same_records_export_the_same_bytes(tmp_path: Path) -> None:
    one, two = (
        {path.name: path.read_bytes() for path in papers.export({"a": timeline_of(RUN)}, folder)}
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
    paths = papers.export({"../up/.. x": timeline_of([[0.3, 0, 0, 0]])}, folder)
    assert {path.parent for path in paths} == {folder}
    assert list(tmp_path.iterdir()) == [folder]
