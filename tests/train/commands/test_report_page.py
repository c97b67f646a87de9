"""The report of real tiny runs in a real browser: what it shows is what the ledger says."""

import itertools
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.builders.paths import REPO
from tests.tracking.views.test_report import EVIL, lively, write_run
from tests.train.conftest import GRPO, SFT, SMALL
from tracking import Timeline
from tracking.model.graph import Graph
from tracking.timeline.coupling import Coupling
from tracking.timeline.survival import cohort_table, survival
from tracking.views.completions import digest
from tracking.views.palette import LOOKS
from tracking.views.report import report, write_report
from train.commands import grpo, sft

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
if not CHROMIUM:
    pytest.skip("there is no chromium here", allow_module_level=True)
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
LIVELY = {  # of a model that has learnt nothing, so that its heads are in many states
    "track_effect": 1e-6,
    "track_member": 0.6,
    "learning_rate": 0.01,
    "max_steps": 8,
    "save_steps": 2,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, small_model: Path) -> dict[str, Path]:
    """A GRPO run with completions and an SFT run."""
    folder = tmp_path_factory.mktemp("runs")
    keys = {**SMALL, **LIVELY, "model_name_or_path": small_model}
    grpo.main(words("grpo", folder, **keys, **GRPO, log_completions=True, logging_steps=1))
    sft.main(words("sft", folder, **keys, **SFT))
    return {name: folder / name for name in ("grpo", "sft")}


def words(name: str, folder: Path, **keys: object) -> list[str]:
    recipe = {"config": REPO / "recipes" / "tiny" / f"{name}.yaml", "output_dir": folder / name}
    return [word for key, value in {**recipe, **keys}.items() for word in (f"--{key}", str(value))]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield opened
        opened.close()


class Shown:
    """Reports in the browser, and what the browser complained of and fetched."""

    def __init__(self, browser: Any, folder: Path) -> None:
        self.browser, self.folder = browser, folder
        self.pages: dict[tuple[str, ...], Any] = {}
        self.complaints: list[str] = []
        self.fetched: list[str] = []

    def __call__(self, runs: dict[str, Path]) -> Any:
        """The page of these runs, opened once; 1400 pixels wide and light."""
        key = tuple(map(str, runs.values()))
        if key not in self.pages:
            path = self.folder / f"report-{len(self.pages)}.html"
            path.write_text(report(runs))
            self.pages[key] = self.opened(path)
        return self.pages[key]

    def opened(self, path: Path) -> Any:
        page = self.browser.new_page(viewport={"width": 1400, "height": 900})
        page.on("console", lambda said: self.complaints.append(said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        page.on("request", lambda request: self.fetched.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("main:not([aria-busy])")
        return page


@pytest.fixture(scope="module")
def reports(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    return Shown(browser, tmp_path_factory.mktemp("reports"))


@pytest.fixture
def show(reports: Shown) -> Iterator[Shown]:
    """`show(runs)` opens their report; nothing may be complained of, nothing fetched but the
    file itself."""
    yield reports
    assert reports.complaints == []
    files = [url for url in reports.fetched if url.startswith("file:")]
    rest = [url for url in reports.fetched if not url.startswith(("file:", "data:", "blob:"))]
    assert len(files) == len(reports.pages) and rest == []


def until(page: Any, condition: str) -> None:
    """Wait for a condition; without `eval`, which the page forbids."""
    end = time.monotonic() + 10
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)


def move_to(page: Any, place: int) -> None:
    """Move the slider to a checkpoint by keyboard."""
    page.locator("#step").focus()
    page.keyboard.press("Home")
    for _ in range(place):
        page.keyboard.press("ArrowRight")


def states_shown(page: Any, run: str) -> dict[str, str]:
    return dict(
        page.locator(f"#map [data-run={run}] .map button").evaluate_all(
            "all => all.map(one => [one.dataset.head, one.dataset.state])"
        )
    )


def number(page: Any, name: str, run: str = "sft") -> list[str]:
    """A number of the chosen head, and what stands beneath it."""
    place = page.locator(f"#map [data-run={run}] [data-number='{name}'] dd")
    return place.evaluate("one => [...one.childNodes].map(part => part.textContent)")


def near(shown: str, wanted: float) -> bool:
    return shown == "–" if pd.isna(wanted) else float(shown) == pytest.approx(wanted, rel=6e-3)


def test_the_map_shows_every_heads_state_at_every_step(runs: dict[str, Path], show: Shown) -> None:
    timeline = Timeline.read(runs["sft"])
    page = show({"sft": runs["sft"]})
    seen = Counter()
    for place, record in enumerate(timeline.records):
        move_to(page, place)
        rows = timeline.at(record.step, timeline.contrasts[0])
        assert states_shown(page, "sft") == dict(zip(rows["head"], rows["state"], strict=True))
        for _, row in rows.iterrows():
            button = page.locator(f"#map button[data-head={row['head']}]")
            told = button.get_attribute("aria-label")
            found = re.fullmatch(r"(L\dH\d): (\w+)(, undecided)?, membership ([\d.e-]+)", told)
            assert found and found[2] == row["state"] and bool(found[3]) == row["undecided"]
            assert near(found[4], row["membership"])
            assert ("hatched" in (button.get_attribute("class") or "")) == row["undecided"]
        told = page.locator("#step").get_attribute("aria-valuetext")
        assert told == f"step {record.step}, {rows['verdict'].iloc[0]}"
        counted = {word: int(n) for n, word in re.findall(r"(\d+) (\w+)", tally(page))}
        undecided = counted.pop("undecided", 0)
        assert counted == rows["state"].value_counts().to_dict()
        assert undecided == rows["undecided"].sum()
        seen.update(rows["state"])
    assert len(seen) > 3  # or this would have tested little


def tally(page: Any) -> str:
    return page.locator("#map [data-run=sft] .tally").inner_text()


def test_a_clicked_head_shows_the_ledgers_numbers(runs: dict[str, Path], show: Shown) -> None:
    timeline = Timeline.read(runs["sft"])
    page = show({"sft": runs["sft"]})
    for place, head in ((1, "L1H2"), (4, "L0H3"), (2, "L1H0")):
        page.locator(f"#map button[data-head={head}]").click()
        move_to(page, place)
        record = timeline.records[place]
        rows = timeline.at(record.step, timeline.contrasts[0])
        row = rows[rows["head"] == head].iloc[0]
        assert number(page, "state")[0] == row["state"]
        for name, column in (("importance", "importance"), ("weight change", "weight_change")):
            assert near(number(page, name)[0], row[column])
        member, beneath = number(page, "membership")
        half, twice = re.findall(r"\d[\d.e-]*", beneath)
        assert near(member, row["membership"])
        assert near(half, row["membership_half"]) and near(twice, row["membership_double"])
        effect, beneath = number(page, "effect")
        low, high = beneath.removeprefix("95 %: ").split(" to ")
        assert near(effect, row["effect"])
        assert near(low, row["effect_low"]) and near(high, row["effect_high"])
        assert number(page, "role")[0] == row["role"].replace("-", "–")
        cohort = number(page, "cohort")
        assert cohort[0] == ("–" if pd.isna(row["cohort"]) else f"step {row['cohort']:.0f}")
        assert cohort[1:] == ([f"{row['fate']} at step 8"] if row["fate"] else [])
        check_edges(page, record, timeline.contrasts[0])
        history = page.locator("#map .chart").evaluate("one => one.data[1].y")
        wanted = timeline.heads.query("contrast == @timeline.contrasts[0] and head == @head")
        assert history == pytest.approx(wanted["membership"].tolist(), abs=5e-4)


def check_edges(page: Any, record: Any, contrast: str) -> None:
    analysis, graph = record.analyses[contrast], record.graph
    rows = page.locator("#map .edges tbody tr").evaluate_all(
        "all => all.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert rows
    for edge, score, membership, circuit in rows:
        place = graph.index(edge.replace(" → ", "->"))
        assert near(score, float(analysis.edge_scores[place]))
        assert near(membership, float(analysis.edge_membership[place]))
        assert (circuit == "in") == bool(analysis.circuit[place])


def test_the_charts_draw_the_counts(runs: dict[str, Path], show: Shown) -> None:
    timeline = Timeline.read(runs["sft"])
    counts = timeline.of_contrast(timeline.contrasts[0])[1]
    page = show({"sft": runs["sft"]})
    traces = page.locator("#what .chart").evaluate("one => one.data")
    drawn = {trace["name"]: trace["y"] for trace in traces if "name" in trace}
    drawn["reward"] = drawn.pop("token accuracy" if "token accuracy" in drawn else "loss")
    for name in ("reward", "surviving", "new", "pruned", "null", "turnover"):
        alike(drawn[name], counts[name])
    for place in (3, 1):
        move_to(page, place)
        marks = "one => one.layout.shapes.filter(shape => shape.name === 'chosen').map(s => s.x0)"
        for chart in ("#what .chart", "#raster .chart", "#map .chart"):
            assert page.locator(chart).evaluate(marks) == [timeline.records[place].step]
    page.locator("#what summary").click()
    page.locator("#what th").first.wait_for()
    titles = page.locator("#what th").all_inner_texts()
    assert "turnover" in titles and "null high" in titles
    assert len(page.locator("#what tbody tr").all()) == len(counts)


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


def traces(page: Any, place: str) -> list[dict[str, Any]]:
    """What Plotly was given for the chart of a place."""
    return page.locator(place).first.evaluate(
        "one => JSON.parse(JSON.stringify(one.data.map(({selectedpoints, ...rest}) => rest)))"
    )


def alike(drawn: Sequence[Any], wanted: Sequence[Any] | pd.Series) -> None:
    known = pd.Series(list(wanted), dtype=float).to_numpy()
    assert pd.Series(drawn, dtype=float).to_numpy() == pytest.approx(known, rel=1e-3, nan_ok=True)


def is_band(trace: dict[str, Any], x: pd.Series, low: pd.Series, high: pd.Series) -> None:
    """Up along the upper end, back along the lower; nothing where there is no interval."""
    assert trace["fill"] == "toself"
    there = (low.notna() & high.notna()).to_numpy()
    assert there.any()
    alike(trace["x"], [*x[there], *x[there][::-1]])
    alike(trace["y"], [*high[there], *low[there][::-1]])


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
    curve = pd.DataFrame(analysis.curve.numpy(), columns=["share", "value", "low", "high"])
    interval, line, diamond = traces(page, "#circuit .chart")
    is_band(interval, curve["share"], curve["low"], curve["high"])
    alike(line["x"], curve["share"])
    alike(line["y"], curve["value"])
    alike(diamond["x"], [float(analysis.circuit.sum() / Graph(2, 3).edges.sum())])
    alike(diamond["y"], [analysis.faithfulness])
    alike(diamond["error_y"]["array"], [1.6 - analysis.faithfulness])
    alike(diamond["error_y"]["arrayminus"], [analysis.faithfulness - analysis.faithfulness_low])
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
        score = float(analysis.edge_scores[record.graph.index(edge)])
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


def test_the_circuit_of_the_chosen_checkpoint_is_drawn(runs: dict[str, Path], show: Shown) -> None:
    timeline = Timeline.read(runs["sft"])
    page = show({"sft": runs["sft"]})
    for place in (0, 3):
        move_to(page, place)
        analysis = timeline.records[place].analyses[timeline.contrasts[0]]
        edges = int(analysis.circuit.sum())
        title = page.locator("#circuit .circuit figcaption").inner_text()
        assert title.endswith(f"{min(edges, 60)} strongest of {edges} edges")
        assert page.locator("#circuit svg.graph path").count() == min(edges, 60)
        absent = (
            timeline.at(timeline.records[place].step, timeline.contrasts[0])["verdict"] == "absent"
        )
        told = page.locator("#circuit .chart").get_attribute("aria-label")
        assert ("–" if absent.all() else f"{analysis.faithfulness:.3g}") in told


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
        assert states_shown(page, "sft") == dict(zip(rows["head"], rows["state"], strict=True))
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
        "all => all.map(one => ['xaxis', 'yaxis2', 'yaxis3'].map(axis => one.layout[axis].range))"
    )
    assert ranges[0] == ranges[1]
    move_to(page, 4)  # step 8, which only one of them has
    assert page.locator("#map [data-run=grpo] .at").inner_text() == "Step 8 "
    last = timeline.records[-1].step
    assert page.locator("#map [data-run=sft] .at").inner_text() == f"Step {last} "
    rows = timeline.at(last, timeline.contrasts[0])
    assert states_shown(page, "sft") == dict(zip(rows["head"], rows["state"], strict=True))
    page.set_viewport_size({"width": 500, "height": 900})
    places = [page.locator(f"#what [data-run={name}]").bounding_box() for name in ("grpo", "sft")]
    assert places[0]["x"] == places[1]["x"] and places[0]["y"] < places[1]["y"]
    until(page, "document.documentElement.scrollWidth <= 500")


def test_the_map_is_walked_by_arrow_keys(runs: dict[str, Path], show: Shown) -> None:
    page = show({"sft": runs["sft"]})
    page.locator("#map button[data-head=L0H0]").click()
    focused = "document.activeElement.dataset.head"
    walked = []
    for key in ("ArrowRight", "ArrowUp", "ArrowUp", "End", "ArrowLeft", "Home", "ArrowDown"):
        page.keyboard.press(key)
        walked.append(page.evaluate(focused))
    assert walked == ["L0H1", "L1H1", "L1H1", "L1H3", "L1H2", "L1H0", "L0H0"]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.locator("#map button[aria-pressed=true]").get_attribute("data-head") == "L0H1"
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
        "circuit": torch.zeros(Graph(2, 3).edges.shape).bool(),
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
