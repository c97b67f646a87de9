"""The report of real tiny runs in a real browser: what it shows is what the ledger says."""

import itertools
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.tracking.test_report import EVIL, write_run
from tests.train.conftest import GRPO, REPO, SFT, SMALL
from tracking import Timeline
from tracking.graph import Graph
from tracking.report import report, write_report
from train import grpo, sft

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
        rows = timeline.at(record.step, timeline.kinds[0])
        assert states_shown(page, "sft") == dict(zip(rows["head"], rows["state"], strict=True))
        for _, row in rows.iterrows():
            button = page.locator(f"#map button[data-head={row['head']}]")
            told = button.get_attribute("aria-label")
            found = re.fullmatch(r"(L\dH\d): (\w+)(, uncertain)?, membership ([\d.e-]+)", told)
            assert found and found[2] == row["state"] and bool(found[3]) == row["uncertain"]
            assert near(found[4], row["membership"])
            assert ("hatched" in (button.get_attribute("class") or "")) == row["uncertain"]
        told = page.locator("#step").get_attribute("aria-valuetext")
        assert told == f"step {record.step}, {rows['verdict'].iloc[0]}"
        counted = {word: int(n) for n, word in re.findall(r"(\d+) (\w+)", tally(page))}
        uncertain = counted.pop("uncertain", 0)
        assert counted == rows["state"].value_counts().to_dict()
        assert uncertain == rows["uncertain"].sum()
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
        rows = timeline.at(record.step, timeline.kinds[0])
        row = rows[rows["head"] == head].iloc[0]
        assert number(page, "state")[0] == row["state"]
        for name, column in (("importance", "importance"), ("weight change", "moved")):
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
        assert cohort[1:] == ([f"{row['fate']} in the end"] if row["fate"] else [])
        check_edges(page, record, timeline.kinds[0])
        history = page.locator("#map .chart").evaluate("one => one.data[1].y")
        wanted = timeline.heads.query("kind == @timeline.kinds[0] and head == @head")
        assert history == pytest.approx(wanted["membership"].tolist(), abs=5e-4)


def check_edges(page: Any, record: Any, kind: str) -> None:
    analysis, graph = record.analyses[kind], record.graph
    rows = page.locator("#map .edges tbody tr").evaluate_all(
        "all => all.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert rows
    for edge, score, membership, circuit in rows:
        place = graph.index(edge.replace(" → ", "->"))
        assert near(score, float(analysis.edges[place]))
        assert near(membership, float(analysis.edge_membership[place]))
        assert (circuit == "in") == bool(analysis.circuit[place])


def test_the_charts_draw_the_counts(runs: dict[str, Path], show: Shown) -> None:
    timeline = Timeline.read(runs["sft"])
    counts = timeline.of_kind(timeline.kinds[0])[1]
    page = show({"sft": runs["sft"]})
    traces = page.locator("#what .chart").evaluate("one => one.data")
    drawn = {trace["name"]: trace["y"] for trace in traces if "name" in trace}
    for name in ("reward", "surviving", "new", "pruned", "null", "turnover"):
        held = pd.Series(drawn[name], dtype=float)
        assert held.to_numpy() == pytest.approx(counts[name].to_numpy(), rel=1e-3, nan_ok=True)
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


def test_the_circuit_of_the_chosen_checkpoint_is_drawn(runs: dict[str, Path], show: Shown) -> None:
    timeline = Timeline.read(runs["sft"])
    page = show({"sft": runs["sft"]})
    for place in (0, 3):
        move_to(page, place)
        analysis = timeline.records[place].analyses[timeline.kinds[0]]
        edges = int(analysis.circuit.sum())
        title = page.locator("#circuit .circuit figcaption").inner_text()
        assert title.endswith(f"{min(edges, 60)} strongest of {edges} edges")
        assert page.locator("#circuit svg.graph path").count() == min(edges, 60)
        assert f"{analysis.faithfulness:.3g}" in page.locator("#circuit .chart").get_attribute(
            "aria-label"
        )


def test_another_kind_of_probe_can_be_chosen(runs: dict[str, Path], show: Shown) -> None:
    timeline = Timeline.read(runs["sft"])
    page = show({"sft": runs["sft"]})
    first, second = timeline.kinds
    assert f"{first!r} probes" in page.locator(".sentence").inner_text()
    page.get_by_label(second, exact=True).check()
    assert f"{second!r} probes" in page.locator(".sentence").inner_text()
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
    rows = timeline.at(last, timeline.kinds[0])
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
    run = write_run(tmp_path / "run", kinds=(evil, "cue"))
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
    first = write_run(tmp_path / "first", kinds=("cue", "operand"))
    second = write_run(tmp_path / "second", (0, 7), Graph(3, 4), kinds=("operand",), probes="1")
    page = show({"first": first, "second": second})
    assert page.locator("#map [data-run=second] .none").inner_text() == (
        "This run has no cue probes."
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
    assert "On 'cue' probes" in page.locator("main").inner_text()
    context.close()
