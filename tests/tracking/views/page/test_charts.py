"""The report of runs made by hand in a real browser: what it draws is what the ledger says."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.builders.browser import (
    Shown,
    alike,
    is_band,
    move_to,
    near,
    traces,
)
from tests.builders.pages import EVIL
from tests.builders.runs import LONG, SMALL, lively, write_run
from tracking import Timeline
from tracking.ledger.record import WiringResult
from tracking.model.graph import Graph
from tracking.timeline.coupling import CAVEAT, SERIES, Coupling
from tracking.timeline.survival import cohort_table, survival
from tracking.views.completions import digest
from tracking.views.drawing import shown
from tracking.views.palette import untold
from tracking.views.report import write_report

WIRED = WiringResult(
    sizes=torch.tensor([0.01, 0.1, 1.0]),
    own=torch.tensor([0.5, 0.9, 1.0]),
    old=torch.tensor([0.2, 0.6, 1.0]),
    half=torch.tensor([0.4, 0.8, 1.0]),
    wiring_kept=0.7,
    wiring_kept_low=0.6,
    wiring_kept_high=0.8,
    wiring_null=0.95,
    wiring_null_low=0.9,
    wiring_null_high=1.0,
    wiring_kept_half=0.6,
    wiring_kept_half_low=0.5,
    wiring_kept_half_high=0.7,
    wiring_null_half=0.9,
    wiring_null_half_low=0.8,
    wiring_null_half_high=1.0,
    wiring_kept_double=0.75,
    wiring_null_double=0.97,
    missing=torch.tensor([SMALL.index("M1->logits"), SMALL.index("L0H1->L1H2.v")]),
    restored=torch.tensor([0.25, 0.125]),
)


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run made by hand of twelve checkpoints, with all that charts show."""
    curve = torch.tensor([[0.01, 0.3, -0.4, 0.4], [0.2, 0.8, 0.7, 0.9], [1, 1, 0.95, 1.3]])
    folder = tmp_path_factory.mktemp("rich") / "run"
    run = lively(folder, (0,), wiring=None, curve=curve, faithfulness_high=1.6)
    lively(run, LONG[1:], curve=curve, faithfulness_high=1.6, wiring=WIRED)
    (run / "completions").mkdir()
    for step in range(5, 115, 10):
        table = {"step": step, "prompt": list("abc"), "completion": [f"{step} {x}" for x in "abc"]}
        rewards = [float(step % (10 * place + 20) > 10) for place in range(3)]
        frame = pd.DataFrame({**table, "judge": rewards, "advantage": 0.0})
        frame.to_parquet(run / "completions" / f"completions_{step:05d}.parquet")
    return run


def of_rich(run: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    timeline = Timeline.read(run)
    return timeline.of_contrast("cue")


def by_name(drawn: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {trace["name"]: trace for trace in drawn if "name" in trace}


def test_the_story_draws_behaviour_reward_and_wiring_with_their_bands(
    rich: Path, show: Shown
) -> None:
    counts = of_rich(rich)[1].reset_index()
    drawn = traces(show({"run": rich}), "#what .chart")
    lines, bands = by_name(drawn), [one for one in drawn if one.get("fill")]
    for name in ("behaviour", "reward", "wiring_kept"):
        alike(lines[name]["x"], counts["step"])
        alike(lines[name]["y"], counts[name])
    for trace, name in zip(bands, ("behaviour", "wiring_null", "wiring_kept"), strict=True):
        is_band(trace, counts["step"], counts[f"{name}_low"], counts[f"{name}_high"])


def test_no_axis_of_steps_begins_below_0(rich: Path, show: Shown) -> None:
    page = show({"run": rich})
    for place in ("#what .chart", "#map .chart", "#lasting .chart"):
        low, high = page.locator(place).first.evaluate("one => one.layout.xaxis.range")
        assert low == 0 and high == 115
    cells = by_name(traces(page, "#what .chart"))["share"]
    assert cells["x"] == [0, *range(5, 116, 10)]


def test_the_rows_draw_every_share_state_and_doubt(rich: Path, show: Shown) -> None:
    timeline = Timeline.read(rich)
    nodes = timeline.nodes.assign(undecided=untold(timeline.nodes))
    drawn = by_name(traces(show({"run": rich}), "#what .chart"))
    cells, strokes = drawn["share"], drawn["undecided"]
    share, states, undecided = (
        nodes.pivot(index="node", columns="step", values=name)
        for name in ("share", "state", "undecided")
    )
    assert (cells["y"], 0) == shown(nodes)
    assert cells["zmin"] == -cells["zmax"] < 0 and undecided.to_numpy().any()
    for name, row, words in zip(cells["y"], cells["z"], cells["text"], strict=True):
        alike(row, share.loc[name])
        for step, word in zip(LONG, words, strict=True):
            state, unsure = str(states.at[name, step]), undecided.at[name, step]
            assert word.startswith(f"{name} at step {step}: {state}, ")
            assert ("this checkpoint alone" in word) == unsure
            place = (2.5 if step == 0 else step, name)
            for sign in {"base", "faded", "new", "pruned", "surviving"} & set(drawn):
                marks = list(zip(drawn[sign]["x"], drawn[sign]["y"], strict=True))
                assert (place in marks) == (sign == state)
            inside = [
                x for x, y in zip(strokes["x"], strokes["y"], strict=True)
                if y == name and step - 5 < x < step + 5
            ]  # fmt: skip
            assert bool(inside) == unsure


def test_cohorts_and_survival_are_drawn(rich: Path, show: Shown) -> None:
    nodes, _ = of_rich(rich)
    page = show({"run": rich})
    table = cohort_table(nodes, "cue")
    bars = traces(page, "#lasting .chart")
    for bar, (_, rows) in zip(bars, table.groupby("cohort"), strict=True):
        assert (bar["x"], bar["y"]) == (rows["step"].tolist(), rows["left"].tolist())
    curve = survival(nodes, "cue")
    interval, line = traces(page, "#lasting figure:nth-child(2) .chart")
    alike(line["x"], curve["time"])
    alike(line["y"], curve["survival"])
    assert line["line"]["shape"] == "hv" and line["text"] == curve["at_risk"].tolist()
    ends = pd.DataFrame({"x": curve["time"], "low": curve["low"], "high": curve["high"]})
    double = ends.loc[ends.index.repeat(2)].reset_index(drop=True)
    double["x"] = double["x"].shift(-1).fillna(curve["time"].iloc[-1])
    double.loc[::2, "x"] = curve["time"].to_numpy()
    is_band(interval, double["x"], double["low"], double["high"])


def test_the_curve_of_faithfulness_and_the_circuit_on_it_are_drawn(rich: Path, show: Shown) -> None:
    page = show({"run": rich})
    move_to(page, 2)
    analysis = Timeline.read(rich).records[2].analyses["cue"]
    curve = pd.DataFrame(analysis.circuit.curve.numpy(), columns=["share", "value", "low", "high"])
    interval, line, diamond = traces(page, "#circuit .chart")
    is_band(interval, curve["share"], curve["low"], curve["high"])
    alike(line["x"], curve["share"])
    alike(line["y"], curve["value"])
    alike(diamond["x"], [float(analysis.circuit.circuit.sum() / Graph(2, 3).edge_mask.sum())])
    alike(diamond["y"], [analysis.circuit.faithfulness])
    alike(diamond["error_y"]["array"], [1.6 - analysis.circuit.faithfulness])
    alike(
        diamond["error_y"]["arrayminus"],
        [analysis.circuit.faithfulness - analysis.circuit.faithfulness_low],
    )
    low, high = page.locator("#circuit .chart").evaluate("one => one.layout.yaxis.range")
    assert low < -0.4 and high > 1.6


def test_an_absent_circuit_shows_no_faithfulness(show: Shown, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", (0, 10))
    write_run(run, (20,), clean=torch.full((16,), -2.0))
    page = show({"run": run})
    assert len(traces(page, "#circuit .chart")) == 2
    assert "there is no behaviour to carry" in page.locator("#wiring .none").inner_text()
    assert "the last is absent" in page.locator("#what .tiles").inner_text()
    move_to(page, 1)
    assert len(traces(page, "#circuit .chart")) == 3


def test_wiring_is_drawn_by_size_with_the_edges_it_lacks(rich: Path, show: Shown) -> None:
    page = show({"run": rich})
    move_to(page, 3)
    drawn = by_name(traces(page, "#wiring .chart"))
    for name in ("own", "half", "old"):
        alike(drawn[name]["x"], WIRED.sizes.tolist())
        alike(drawn[name]["y"], getattr(WIRED, name).tolist())
    rows = page.locator("#wiring .edges tbody tr").evaluate_all(
        "all => all.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert rows == [["M1 → logits", "0.25"], ["L0H1 → L1H2.v", "0.125"]]
    text = page.locator("#wiring .about").nth(1).inner_text()
    assert "carries 0.7 (0.6 to 0.8)" in text
    move_to(page, 0)
    assert "no earlier wiring" in page.locator("#wiring .none").inner_text()


def test_the_coupling_is_drawn_with_its_caveat_and_filled_by_the_corrected_p(
    rich: Path, show: Shown
) -> None:
    table = Coupling.of(*of_rich(rich), "cue").table
    page = show({"run": rich})
    assert page.locator("#reward .notice").first.inner_text() == CAVEAT
    for trace, series in zip(traces(page, "#reward .chart"), SERIES, strict=True):
        rows = table[table["series"] == series]
        assert trace["name"] == series
        assert [round(x) for x in trace["x"]] == rows["lag"].tolist()
        alike(trace["y"], rows["correlation"])
        filled = [color == trace["line"]["color"] for color in trace["marker"]["color"]]
        assert filled == (rows["p_corrected"] <= 0.05).tolist()
    # of so few checkpoints none is below 0.05
    held = "DATA.runs[0].contrasts.cue.coupling.table.p_corrected[0]"
    page.evaluate(f"{held} = 0.05; draw()")
    assert tuple(table.loc[0, ["series", "lag"]]) == ("behaviour", -3)
    drawn = traces(page, "#reward .chart")
    flat = [color == one["line"]["color"] for one in drawn for color in one["marker"]["color"]]
    assert [place for place, filled in enumerate(flat) if filled] == [0]
    page.evaluate(f"{held} = {table.loc[0, 'p_corrected']}; draw()")
    text = page.locator("#reward .about").first.inner_text()
    hazard = Coupling.of(*of_rich(rich), "cue").hazard
    correlation, p = re.findall(r"correlation (\S+), p = (\S+) from", text)[0]
    assert near(correlation, hazard.correlation) and near(p, hazard.p)


def test_problems_that_turned_are_drawn(rich: Path, show: Shown) -> None:
    problems = digest(rich, list(range(0, 120, 10)), 3, 12)
    page = show({"run": rich})
    solved, failed = traces(page, "#reward article > div > div:nth-child(2) .chart")
    assert problems and sum(problems.solved) and sum(problems.failed)
    assert solved["y"] == list(problems.solved)
    assert [-count for count in failed["y"]] == list(problems.failed)


@pytest.mark.parametrize("node", ["L1H1", "M1"])
def test_a_nodes_history_is_drawn_with_its_bands(node: str, rich: Path, show: Shown) -> None:
    page = show({"run": rich})
    page.locator(f"#map button[data-node={node}]").click()
    rows = of_rich(rich)[0].query("node == @node").reset_index()
    drawn = traces(page, "#map .chart")
    bands = [one for one in drawn if one.get("fill")]
    for trace, name in zip(bands, ("corrupt", "restore"), strict=True):
        is_band(trace, rows["step"], rows[f"{name}_low"], rows[f"{name}_high"])
    lines = by_name(drawn)
    assert ("weight_change" in lines) == (node == "L1H1")
    for name in {"corrupt", "restore", "entry", "membership"} | {*lines}:
        alike(lines[name]["x"], rows["step"])
        alike(lines[name]["y"], rows[name])
    assert lines["corrupt"]["text"] == rows["state"].tolist()


def test_a_click_on_a_row_chooses_node_and_step(rich: Path, show: Shown) -> None:
    page = show({"run": rich})
    place = page.locator("#what .chart").first
    place.evaluate("one => one.emit('plotly_click', { points: [{ x: 30, y: 'M1' }] })")
    assert page.locator("#map .now h4").inner_text() == "M1 at step 30"


def test_edges_for_the_right_token_are_blue_and_against_it_orange(rich: Path, show: Shown) -> None:
    page = show({"run": rich})
    record = Timeline.read(rich).records[3]
    move_to(page, 3)
    analysis = record.analyses["cue"]
    paths = page.locator("#circuit svg.graph path").evaluate_all(
        "all => all.map(one => [one.querySelector('title').textContent, one.getAttribute('class'), "
        "getComputedStyle(one).stroke, +one.getAttribute('stroke-width')])"
    )
    signs, widths = set(), []
    for title, name, stroke, width in paths:
        edge = graph_edge(title)
        score = float(analysis.scores.edge_scores[record.graph.index(edge)])
        assert near(title.split(": ")[1].split(",")[0], score)
        assert (name, stroke) == (
            ("negative", "rgb(213, 94, 0)") if score < 0 else ("positive", "rgb(0, 114, 178)")
        )
        signs.add(name)
        widths.append((abs(score), width))
    assert signs == {"positive", "negative"}
    assert [width for _, width in sorted(widths)] == sorted(width for _, width in widths)


def graph_edge(title: str) -> str:
    return title.split(": ")[0].replace(" → ", "->")


def test_markup_in_names_kinds_and_completions_is_text(show: Shown, tmp_path: Path) -> None:
    evil = EVIL + "<img src=x onerror=alert(1)>"
    run = write_run(tmp_path / "run", contrasts=(evil, "cue"))
    (run / "config.yaml").write_text(evil)
    (run / "completions").mkdir()
    table = {"step": [5], "prompt": [evil], "completion": [evil], "judge": [1.0]}
    frame = pd.DataFrame({**table, "advantage": [0.0]})
    frame.to_parquet(run / "completions" / "completions_00005.parquet")
    page = show({evil: run, "other": run})
    move_to(page, 1)
    assert page.title() == f"Behaviour over training: {evil}, other"
    assert page.locator("#reward .sample pre").first.text_content() == evil
    assert page.locator(".recipe").first.text_content() == evil
    assert page.locator("#map h3").first.text_content() == evil
    assert page.locator("fieldset label").first.text_content() == evil
    assert page.locator("main img").count() == 0


def test_a_run_with_one_checkpoint_says_what_is_missing(show: Shown, tmp_path: Path) -> None:
    page = show({"run": write_run(tmp_path / "run", (0,))})
    for section in ("what", "lasting"):
        text = page.locator(f"#{section} .none").first.inner_text()
        assert text.startswith("One checkpoint (step 0)")
    assert page.locator("#step").is_disabled()
    assert page.locator("#map .map button").count() == 8
    assert page.locator("#circuit svg.graph path").count() > 0


def test_runs_of_other_models_and_kinds_stand_beside_each_other(
    show: Shown, tmp_path: Path
) -> None:
    first = write_run(tmp_path / "first", contrasts=("cue", "operand"))
    second = write_run(tmp_path / "second", (0, 7), Graph(3, 4), contrasts=("operand",), pairs="1")
    page = show({"first": first, "second": second})
    assert page.locator("#map [data-run=second] .none").inner_text() == (
        "This run has no cue pairs."
    )
    page.get_by_label("operand", exact=True).check()
    page.locator("#map [data-run=second] button[data-node=L2H3]").click()
    text = page.locator("#map [data-run=first] .none").inner_text()
    assert text == "L2H3 is no node of this model."
    assert page.locator("#map [data-run=second] .now h4").inner_text() == "L2H3 at step 7"
    move_to(page, 2)  # of 0, 7, 10 and 20
    assert page.locator("#map .at").all_inner_texts() == ["Step 10 ", "Step 7 "]
    assert page.locator("main > .notice").count() == 3


def test_a_run_in_which_nothing_happens_is_shown(show: Shown, tmp_path: Path) -> None:
    quiet: dict[str, Any] = {
        "circuit": torch.zeros(Graph(2, 3).edge_mask.shape).bool(),
        "share": torch.zeros(8),
    }
    absent = torch.full((16,), -2.0)
    page = show({"run": write_run(tmp_path / "run", **quiet, clean=absent)})
    assert "No node was active" in page.locator("#what .none").inner_text()
    assert "No head emerged" in page.locator("#lasting .none").inner_text()
    assert "no edge" in page.locator("#circuit .none").inner_text()
    assert "npacking" not in page.locator("main").inner_text()  # nothing is left of the wait


def test_of_few_heads_that_emerged_there_are_no_curves(show: Shown, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", (0,), share=0.3 * torch.eye(8)[1])
    write_run(run, (10, 20), share=0.3 * torch.eye(8)[:3].sum(0))
    page = show({"run": run})
    assert page.locator("#lasting .none").inner_text().startswith("2 heads emerged: too few")
    assert page.locator("#lasting .chart").count() == 0


def test_without_scripts_the_sentences_are_there(browser: Any, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    path = write_report([run], tmp_path / "report.html")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert "On 'cue' pairs" in page.locator("main").inner_text()
    context.close()
