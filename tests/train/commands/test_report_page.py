"""The report of real tiny runs in a real browser: what it shows is what the ledger says."""

import itertools
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.builders.browser import (
    Shown,
    alike,
    move_to,
    near,
    states_shown,
    until,
)
from tracking import Timeline
from tracking.views.drawing import carried
from tracking.views.palette import untold

LIVELY = {
    "track_share": 0.02,
    "learning_rate": 0.01,
    "max_steps": 8,
    "save_steps": 2,
}


@pytest.fixture(scope="module")
def runs(
    browser: Any, tmp_path_factory: pytest.TempPathFactory, run_job: Callable[..., Path]
) -> dict[str, Path]:
    """A GRPO run with completions and an SFT run, where there is a browser."""
    folder = tmp_path_factory.mktemp("runs")
    more = {"log_completions": True, "logging_steps": 1}
    return {
        "grpo": run_job("grpo", folder / "grpo", **LIVELY, **more),
        "sft": run_job("sft", folder / "sft", **LIVELY, track_contrasts=["cue", "operand"]),
    }


def number(page: Any, name: str, run: str = "sft") -> list[str]:
    """A number of the chosen node, and what stands beneath it."""
    place = page.locator(f"#map [data-run={run}] [data-number='{name}'] dd")
    return place.evaluate("one => [...one.childNodes].map(part => part.textContent)")


def test_the_map_shows_every_nodes_state_at_every_step(
    run_job: Callable[..., Path], tmp_path: Path, show: Shown
) -> None:
    # the model has the behaviour, so that its nodes are in several states
    run = run_job("sft", tmp_path, **LIVELY, model_name_or_path="tiny", track_contrasts="operand")
    timeline, page = Timeline.read(run), show({"sft": run})
    seen = Counter()
    for place, record in enumerate(timeline.records):
        move_to(page, place)
        rows = timeline.at(record.step, timeline.contrasts[0])
        assert states_shown(page, "sft") == dict(zip(rows["node"], rows["state"], strict=True))
        for unsure, (_, row) in zip(untold(rows), rows.iterrows(), strict=True):
            button = page.locator(f"#map button[data-node={row['node']}]")
            label = button.get_attribute("aria-label")
            assert label.startswith(f"{row['node']}: {row['state']}")
            assert ("this checkpoint alone" in label) == unsure
            share = re.search(r"share (\S+) \(", label)
            assert share and near(share[1], row["share"])
            assert ("hatched" in (button.get_attribute("class") or "")) == unsure
        label = page.locator("#step").get_attribute("aria-valuetext")
        assert label == f"step {record.step}, {rows['verdict'].iloc[0]}"
        for kind, words in zip(("head", "mlp"), tally(page).split("; "), strict=True):
            counted = {word: int(n) for n, word in re.findall(r"(\d+) (\w+)", words)}
            assert counted == rows.loc[rows["kind"] == kind, "state"].value_counts().to_dict()
        seen.update(rows["state"])
    assert len(seen) > 1  # or this would have tested little


def tally(page: Any) -> str:
    return page.locator("#map [data-run=sft] .tally").inner_text()


def test_a_clicked_node_shows_the_ledgers_numbers(runs: dict[str, Path], show: Shown) -> None:
    timeline = Timeline.read(runs["sft"])
    page = show({"sft": runs["sft"]})
    for place, node in ((1, "L1H2"), (4, "L0H3"), (2, "M1")):
        page.locator(f"#map button[data-node={node}]").click()
        move_to(page, place)
        record = timeline.records[place]
        rows = timeline.at(record.step, timeline.contrasts[0])
        row = rows[rows["node"] == node].iloc[0]
        assert number(page, "state")[0] == row["state"]
        for name in ("corrupt", "restore"):
            share, beneath = number(page, name)
            assert near(share, row[name])
            if row["measured"]:
                low, high = beneath.removeprefix("95 %: ").split(" to ")
                assert near(low, row[f"{name}_low"]) and near(high, row[f"{name}_high"])
            else:
                assert "not measured" in beneath
        assert near(number(page, "change")[0], row["change"])
        assert near(number(page, "membership")[0], row["membership"])
        if node != "M1":
            assert near(number(page, "weight change")[0], row["weight_change"])
            assert number(page, "role")[0] == row["role"].replace("-", "–")
        cohort = number(page, "cohort")
        assert cohort[0] == ("–" if pd.isna(row["cohort"]) else f"step {row['cohort']:.0f}")
        assert all(word in "".join(cohort[1:]) for word in (row["origin"], row["fate"]))
        check_edges(page, record, timeline.contrasts[0])


def check_edges(page: Any, record: Any, contrast: str) -> None:
    analysis, graph = record.analyses[contrast], record.graph
    rows = page.locator("#map .edges tbody tr").evaluate_all(
        "all => all.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert rows
    for edge, score, membership, circuit in rows:
        place = graph.index(edge.replace(" → ", "->"))
        assert near(score, float(analysis.scores.edge_scores[place]))
        assert near(membership, float(analysis.stability.edge_membership[place]))
        assert (circuit == "in") == bool(analysis.circuit.circuit[place])


def test_the_charts_draw_the_counts(runs: dict[str, Path], show: Shown) -> None:
    timeline = Timeline.read(runs["sft"])
    counts = carried(timeline.of_contrast(timeline.contrasts[0])[1])
    page = show({"sft": runs["sft"]})
    traces = page.locator("#what .chart").evaluate("one => one.data")
    drawn = {trace["name"]: trace["y"] for trace in traces if "name" in trace}
    drawn["reward"] = drawn.pop("token accuracy" if "token accuracy" in drawn else "loss")
    for name in ("reward", "behaviour", "wiring_kept"):
        alike(drawn[name], counts[name])
    for place in (3, 1):
        move_to(page, place)
        marks = "one => one.layout.shapes.filter(shape => shape.name === 'chosen').map(s => s.x0)"
        for chart in ("#what .chart", "#map .chart"):
            assert page.locator(chart).evaluate(marks) == [timeline.records[place].step]
    page.locator("#what summary").first.click()
    page.locator("#what th").first.wait_for()
    titles = page.locator("#what th").all_inner_texts()
    assert "behaviour" in titles and "wiring null high" in titles
    assert len(page.locator("#what tbody tr").all()) == len(counts)


def test_the_circuit_of_the_chosen_checkpoint_is_drawn(runs: dict[str, Path], show: Shown) -> None:
    timeline = Timeline.read(runs["sft"])
    page = show({"sft": runs["sft"]})
    for place in (0, 3):
        move_to(page, place)
        analysis = timeline.records[place].analyses[timeline.contrasts[0]]
        edges = int(analysis.circuit.circuit.sum())
        title = page.locator("#circuit .circuit figcaption").inner_text()
        assert title.endswith(f"{min(edges, 60)} strongest of {edges} edges")
        assert page.locator("#circuit svg.graph path").count() == min(edges, 60)
        absent = (
            timeline.at(timeline.records[place].step, timeline.contrasts[0])["verdict"] == "absent"
        )
        label = page.locator("#circuit .chart").get_attribute("aria-label")
        assert ("–" if absent.all() else f"{analysis.circuit.faithfulness:.3g}") in label


def test_another_kind_of_pair_can_be_chosen(runs: dict[str, Path], show: Shown) -> None:
    timeline = Timeline.read(runs["sft"])
    page = show({"sft": runs["sft"]})
    first, second = timeline.contrasts
    assert f"{first!r} pairs" in page.locator(".sentence").inner_text()
    page.get_by_label(second, exact=True).check()
    assert f"{second!r} pairs" in page.locator(".sentence").inner_text()
    for place, record in enumerate(timeline.records):
        move_to(page, place)
        rows = timeline.at(record.step, second)
        assert states_shown(page, "sft") == dict(zip(rows["node"], rows["state"], strict=True))
    page.get_by_label(first, exact=True).check()


def test_runs_stand_side_by_side_on_the_same_axes(
    runs: dict[str, Path], show: Shown, tmp_path: Path
) -> None:
    shorter = tmp_path / "sft"
    shutil.copytree(runs["sft"], shorter)
    timeline = Timeline.read(shorter)
    for record in timeline.records[-2:]:
        (shorter / "heads" / f"step-{record.step:08d}.safetensors").unlink()
    timeline = Timeline.read(shorter)
    page = show({"grpo": runs["grpo"], "sft": shorter})
    places = [page.locator(f"#what [data-run={name}]").bounding_box() for name in ("grpo", "sft")]
    assert places[0]["y"] == places[1]["y"] and places[0]["x"] < places[1]["x"]
    ranges = page.locator("#what .chart").evaluate_all(
        "all => all.map(one => ['xaxis', 'yaxis', 'yaxis3'].map(axis => one.layout[axis].range))"
    )
    assert ranges[0] == ranges[1]
    move_to(page, 4)  # step 8, which only one of them has
    assert page.locator("#map [data-run=grpo] .at").inner_text() == "Step 8 "
    last = timeline.records[-1].step
    assert page.locator("#map [data-run=sft] .at").inner_text() == f"Step {last} "
    rows = timeline.at(last, timeline.contrasts[0])
    assert states_shown(page, "sft") == dict(zip(rows["node"], rows["state"], strict=True))
    page.set_viewport_size({"width": 500, "height": 900})
    places = [page.locator(f"#what [data-run={name}]").bounding_box() for name in ("grpo", "sft")]
    assert places[0]["x"] == places[1]["x"] and places[0]["y"] < places[1]["y"]
    until(page, "document.documentElement.scrollWidth <= 500")


def test_the_map_is_walked_by_arrow_keys(runs: dict[str, Path], show: Shown) -> None:
    page = show({"sft": runs["sft"]})
    page.locator("#map button[data-node=L0H0]").click()
    focused = "document.activeElement.dataset.node"
    walked = []
    for key in ("ArrowRight", "ArrowUp", "ArrowUp", "End", "ArrowLeft", "Home", "ArrowDown"):
        page.keyboard.press(key)
        walked.append(page.evaluate(focused))
    assert walked == ["L0H1", "L1H1", "L1H1", "M1", "L1H3", "L1H0", "L0H0"]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.locator("#map button[aria-pressed=true]").get_attribute("data-node") == "L0H1"
    assert page.locator("#map button[tabindex='0']").count() == 1
    assert "L0H1" in page.locator("#map .now h4").inner_text()


def test_headings_are_in_order_and_every_chart_has_a_label(
    runs: dict[str, Path], show: Shown
) -> None:
    page = show(runs)
    levels = page.locator("h1, h2, h3, h4").evaluate_all("all => all.map(one => +one.tagName[1])")
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert page.locator(".chart:not([role=img]), .chart:not([aria-label])").count() == 0
    assert page.locator("main svg.graph:not([aria-label])").count() == 0
    ids = page.locator("main [id]:not(svg *)").evaluate_all("all => all.map(one => one.id)")
    assert len(ids) == len(set(ids))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"


def test_colours_follow_dark_mode_and_print(runs: dict[str, Path], show: Shown) -> None:
    page = show({"sft": runs["sft"]})
    ink = "document.querySelector('#what .chart').layout.font.color"
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(f"[{ink}, {ground}]")
    page.emulate_media(color_scheme="dark")
    until(page, f"{ink} != '{light[0]}' && {ground} != '{light[1]}'")
    dark = page.evaluate(ink)
    page.emulate_media(color_scheme="dark", media="print")
    until(page, f"{ink} != '{dark}' && {ground} == 'rgb(255, 255, 255)'")
    assert page.locator("#step").is_hidden()
    page.emulate_media(color_scheme="light", media="screen")


def test_completions_and_the_recipe_are_shown(runs: dict[str, Path], show: Shown) -> None:
    page = show(runs)
    shown = page.locator("#reward [data-run=grpo] .sample").count()
    assert shown == 3
    assert "log_completions" in page.locator("#reward [data-run=sft] .none").last.inner_text()
    recipe = page.locator("#method [data-run=grpo] .recipe").text_content()
    assert recipe == (runs["grpo"] / "config.yaml").read_text()
