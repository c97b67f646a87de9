"""The report of runs made by hand in a real browser: what it draws is what the ledger says."""

import itertools
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
from tests.builders.runs import lively, write_run
from tracking import Timeline
from tracking.model.graph import Graph
from tracking.timeline.coupling import Coupling
from tracking.timeline.survival import cohort_table, survival
from tracking.views.completions import digest
from tracking.views.palette import LOOKS
from tracking.views.report import write_report


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run made by hand of twelve checkpoints, with all that charts show."""
    curve = torch.tensor([[0.01, 0.3, -0.4, 0.4], [0.2, 0.8, 0.7, 0.9], [1, 1, 0.95, 1.3]])
    run = lively(tmp_path_factory.mktemp("rich") / "run", curve=curve, faithfulness_high=1.6)
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


def test_the_overview_draws_counts_turnover_and_their_bands(rich: Path, show: Shown) -> None:
    counts = of_rich(rich)[1].reset_index()
    reward, *drawn = traces(show({"run": rich}), "#what .chart")
    assert reward["name"] == "reward"
    alike(reward["y"], counts["reward"])
    for place, name in enumerate(("surviving", "new", "pruned")):
        is_band(drawn[place], counts["step"], counts[f"{name}_low"], counts[f"{name}_high"])
        line = drawn[3 + place]
        assert line["name"] == name and line["line"]["color"] == LOOKS[name].color
        alike(line["x"], counts["step"])
        alike(line["y"], counts[name])
    is_band(drawn[6], counts["step"], 0 * counts["null_high"], counts["null_high"])
    alike(drawn[7]["y"], counts["null"])
    alike(drawn[8]["y"], counts["turnover"])


def test_the_raster_draws_every_state_and_strokes_where_undecided(rich: Path, show: Shown) -> None:
    heads = of_rich(rich)[0]
    cells, strokes = traces(show({"run": rich}), "#raster .chart")
    states, undecided = (
        heads.pivot(index="head", columns="step", values=name) for name in ("state", "undecided")
    )
    assert len(cells["y"]) == len(states) and cells["x"] == list(states.columns)
    assert undecided.to_numpy().any()
    for name, row, words in zip(cells["y"], cells["z"], cells["text"], strict=True):
        for step, code, word in zip(cells["x"], row, words, strict=True):
            state, unsure = str(states.at[name, step]), undecided.at[name, step]
            assert word == state + (", undecided" if unsure else "")
            if state == "inactive":
                assert code is None
                continue
            share = (code - cells["zmin"]) / (cells["zmax"] - cells["zmin"])
            color = [color for start, color in cells["colorscale"] if start <= share][-1]
            assert color == LOOKS[state].color
            inside = [
                x for x, y in zip(strokes["x"], strokes["y"], strict=True)
                if y == name and step - 5 < x < step + 5
            ]  # fmt: skip
            assert bool(inside) == unsure


def test_cohorts_and_survival_are_drawn(rich: Path, show: Shown) -> None:
    heads, _ = of_rich(rich)
    page = show({"run": rich})
    table = cohort_table(heads, "cue")
    bars = traces(page, "#lasting .chart")
    for bar, (_, rows) in zip(bars, table.groupby("cohort"), strict=True):
        assert (bar["x"], bar["y"]) == (rows["step"].tolist(), rows["left"].tolist())
    curve = survival(heads, "cue")
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
    write_run(run, (20,), difference_low=0.0)
    page = show({"run": run})
    assert len(traces(page, "#circuit .chart")) == 2
    tile = page.locator("#what .tiles div").nth(3).inner_text()
    assert tile.split("\n") == ["faithfulness of the last circuit, absent", "–"]
    move_to(page, 1)
    assert len(traces(page, "#circuit .chart")) == 3


def test_the_coupling_is_drawn_and_filled_by_the_corrected_p(rich: Path, show: Shown) -> None:
    table = Coupling.of(*of_rich(rich), "cue").table
    page = show({"run": rich})
    drawn = traces(page, "#reward .chart")
    pairs = itertools.product(("reward", "change"), ("surviving", "new", "pruned"))
    for trace, (against, heads) in zip(drawn, pairs, strict=True):
        rows = table[(table["against"] == against) & (table["heads"] == heads)]
        assert [round(x) for x in trace["x"]] == rows["lag"].tolist()
        alike(trace["y"], rows["correlation"])
        filled = [color == LOOKS[heads].color for color in trace["marker"]["color"]]
        assert filled == (rows["p_corrected"] <= 0.05).tolist()
        assert trace.get("xaxis", "x") == ("x" if against == "reward" else "x2")
    # of so few checkpoints none is below 0.05
    held = "DATA.runs[0].contrasts.cue.coupling.table.p_corrected[0]"
    page.evaluate(f"{held} = 0.05; draw()")
    wanted = ("new", "reward", -3)
    assert tuple(table.loc[0, ["heads", "against", "lag"]]) == wanted
    colors = [trace["marker"]["color"] for trace in traces(page, "#reward .chart")]
    flat = [color in {LOOKS[name].color for name in LOOKS} for one in colors for color in one]
    assert [place for place, filled in enumerate(flat) if filled] == [7]
    page.evaluate(f"{held} = {table.loc[0, 'p_corrected']}; draw()")
    told = page.locator("#reward .about").first.inner_text()
    hazard = Coupling.of(*of_rich(rich), "cue").hazard
    correlation, p = re.findall(r"correlation (\S+), p = (\S+) from", told)[0]
    assert near(correlation, hazard.correlation) and near(p, hazard.p)


def test_problems_that_turned_are_drawn(rich: Path, show: Shown) -> None:
    said = digest(rich, list(range(0, 120, 10)), 3, 12)
    page = show({"run": rich})
    solved, failed = traces(page, "#reward article > div > div:nth-child(2) .chart")
    assert said and sum(said.solved) and sum(said.failed)
    assert solved["y"] == list(said.solved)
    assert [-count for count in failed["y"]] == list(said.failed)


def test_a_heads_history_is_drawn_with_its_bands(rich: Path, show: Shown) -> None:
    page = show({"run": rich})
    page.locator("#map button[data-head=L1H1]").click()
    rows = of_rich(rich)[0].query("head == 'L1H1'").reset_index()
    band, member, interval, *lines = traces(page, "#map .chart")
    three = rows[["membership", "membership_half", "membership_double"]]
    is_band(band, rows["step"], three.min(axis=1), three.max(axis=1))
    is_band(interval, rows["step"], rows["effect_low"], rows["effect_high"])
    names = ("membership", "effect", "importance", "weight_change")
    for line, name in zip([member, *lines], names, strict=True):
        alike(line["x"], rows["step"])
        alike(line["y"], rows[name])
        colors = [LOOKS[state].color.lower() for state in rows["state"]]
        assert [color.lower() for color in line["marker"]["color"]] == colors


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
    assert page.title() == f"Heads over training: {evil}, other"
    assert page.locator("#reward .sample pre").first.text_content() == evil
    assert page.locator(".recipe").first.text_content() == evil
    assert page.locator("#map h3").first.text_content() == evil
    assert page.locator("fieldset label").first.text_content() == evil
    assert page.locator("main img").count() == 0


def test_a_run_with_one_checkpoint_says_what_is_missing(show: Shown, tmp_path: Path) -> None:
    page = show({"run": write_run(tmp_path / "run", (0,))})
    for section in ("what", "raster", "lasting"):
        said = page.locator(f"#{section} .none").first.inner_text()
        assert said.startswith("One checkpoint (step 0)")
    assert page.locator("#step").is_disabled()
    assert page.locator("#map .map button").count() == 6
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
    page.locator("#map [data-run=second] button[data-head=L2H3]").click()
    said = page.locator("#map [data-run=first] .none").inner_text()
    assert said == "L2H3 is no head of this model."
    assert page.locator("#map [data-run=second] .now h4").inner_text() == "L2H3 at step 7"
    move_to(page, 2)  # of 0, 7, 10 and 20
    assert page.locator("#map .at").all_inner_texts() == ["Step 10 ", "Step 7 "]
    assert page.locator("main > .notice").count() == 3


def test_a_run_in_which_nothing_happens_is_shown(show: Shown, tmp_path: Path) -> None:
    quiet: dict[str, Any] = {
        "circuit": torch.zeros(Graph(2, 3).edge_mask.shape).bool(),
        "effect": torch.zeros(16, 6),
    }
    page = show({"run": write_run(tmp_path / "run", **quiet, difference_low=0.0)})
    assert "No head was active" in page.locator("#raster .none").inner_text()
    assert "No head emerged" in page.locator("#lasting .none").inner_text()
    assert "no edge" in page.locator("#circuit .none").inner_text()


def test_without_scripts_the_sentences_are_there(browser: Any, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    path = write_report([run], tmp_path / "report.html")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert "On 'cue' pairs" in page.locator("main").inner_text()
    context.close()
