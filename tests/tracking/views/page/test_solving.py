"""The report's section on solving in a real browser."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.builders.browser import Shown, alike, traces
from tests.builders.runs import write_run

BAD = "<script>document.title = 'broken'</script>"


def test_the_section_draws_marks_and_shows_both_responses(show: Shown, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for step in (0, 20):
        (run / "evals" / f"step-{step:08}").mkdir(parents=True)
        table = {"benchmark": ["easy"], "avg": [0.5], "avg_low": [0.4], "avg_high": [0.6]}
        pd.DataFrame(table).to_parquet(run / "evals" / f"step-{step:08}" / "summary.parquet")
    folder = run / "evals" / "step-00000020"
    (folder / "responses").mkdir()
    row = {"heads": "active", "nodes": "L0H1", "mode": "zero", "benchmark": "easy", "problems": 1}
    row |= {"on": 1.0, "off": 0.25, "change": -0.75, "change_low": -0.9, "change_high": -0.5}
    pd.DataFrame([{**row, "p": 1e-6, "smallest": 0.2}]).to_parquet(folder / "ablation.parquet")
    response = {"benchmark": "easy", "problem": "p0", "sample": 0, "prompt": "1+1="}
    responses = [
        {**response, "condition": "", "response": f"2 {BAD}", "right": True},
        {**response, "condition": "zero L0H1", "response": f"3 {BAD}", "right": False},
    ]
    pd.DataFrame(responses).to_parquet(folder / "responses" / "part-000000.parquet")
    page = show({"run": run})
    cells = page.locator("#solving table").last.locator("td").all_inner_texts()
    assert cells[4] == "−0.750 (−0.900 to −0.500)*" and cells[5] == "<0.0001"
    assert page.locator("#solving .sample").count() == 0  # closed
    page.get_by_text("1 of 1 problems newly failed, 0 newly solved").click()
    page.wait_for_selector("#solving .sample")
    sides = page.locator("#solving .sample .beside pre").all_inner_texts()
    assert sides == [f"2 {BAD}", f"3 {BAD}"] and page.title() != "broken"
    assert page.locator("#solving .chart .scatterlayer .trace").count() == 2  # line and band


CHANGE = {"mode": "zero", "change": -0.5, "change_low": -0.75, "change_high": -0.25}


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all that stands beside an ablation."""
    run = write_run(tmp_path_factory.mktemp("studied") / "run")
    final = run / "evals" / "final"
    final.mkdir(parents=True)
    row = {**CHANGE, "heads": "active", "nodes": "L0H1", "problems": 9, "on": 0.75, "off": 0.25,
           "p": 1e-6, "smallest": 0.2, "layer_less": -0.25, "layer_less_low": -0.5,
           "layer_less_high": 0.0}  # fmt: skip
    names = ("easy", "easy, easier", "easy, harder")
    easy, easier, harder = ({**row, "benchmark": name, "layer_beyond": True} for name in names)
    halves = [{**one, "easier": "up to level 3"} for one in (easier, harder)]
    spreads = [0.8, 0.7, 0.9, 0.4, 0.3, 0.5]
    spread = dict(zip(("x", "x_low", "x_high", "y", "y_low", "y_high"), spreads, strict=True))
    point = {"easy": names[1], "hard": names[2], **spread}
    conditions = [("the model", "as it is"), ("the model", "control set"), ("the base", "graft")]
    tables = {
        "ablation": [easy],
        "halves": halves,
        "labels": [{**easy, "label": "loop"}, {**easy, "label": f"long {BAD}"}],
        "trade_off": [{**point, "model": model, "what": what} for model, what in conditions],
        "heads": [{**easy, "nodes": "L0H1", "share": -0.3},
                  {**easy, "nodes": "L1H2", "share": 0.1, "p": 0.5}],
        "predictions": [{"benchmark": "easy", "mode": "zero", "heads": 2, "value": 0.5,
                         "low": -0.25, "high": 1.0}],
    }  # fmt: skip
    for name, rows in tables.items():
        pd.DataFrame(rows).to_parquet(final / f"{name}.parquet")
    attention(final)
    return run


def attention(final: Path) -> None:
    """One problem that turned, and where two heads attend in it."""
    (final / "responses").mkdir()
    response = {"benchmark": "easy", "problem": "p0", "sample": 0, "prompt": "1+1="}
    rows = [{**response, "condition": condition, "response": "2", "right": not condition}
            for condition in ("", "zero L0H1")]  # fmt: skip
    pd.DataFrame(rows).to_parquet(final / "responses" / "part-000000.parquet")
    tokens = ["1", "+1", "=", "2", BAD]  # the prompt's last is the third
    weights = np.zeros((2, 3, 5), np.uint8)  # [head, query, key]
    weights[1, :, :3] = [[51, 0, 204], [0, 255, 0], [255, 0, 0]]
    sides = {f"{side}_tokens": tokens for side in ("before", "after")}
    sides |= {f"{side}_weights": weights.tobytes() for side in ("before", "after")}
    kept = {**rows[1], "heads": ["L0H1", "L1H2"], "first": 2, **sides}
    pd.DataFrame([kept]).to_parquet(final / "attention.parquet")


def test_labels_halves_single_heads_and_the_trade_off_are_the_files(
    show: Shown, studied: Path
) -> None:
    page = show({"run": studied})
    written = {
        name: page.get_by_label(name, exact=True).locator("tbody td").all_inner_texts()
        for name in (
            "Accuracy in easier and harder problems with sets of heads off, of final",
            "Failure labels with sets of heads off, of final",
        )
    }
    halves, labels = written.values()
    assert halves[1] == "easy, easier" and halves[4] == "−0.500 (−0.750 to −0.250)*"
    assert page.get_by_text("easy, easier: up to level 3.").count() == 1
    assert [labels[place] for place in (0, 2, 6, 9)] == [
        "active zero", "loop", "−0.250 (−0.500 to +0.000)", f"long {BAD}",
    ]  # fmt: skip
    trade_off, each = (traces(page, f"#solving .chart >> nth={place}") for place in (0, 1))
    assert {one["name"]: one["marker"]["symbol"][-4:] == "open" for one in trade_off} == {
        "the model, as it is": False, "the model, control set": False, "the base, graft": True,
    }  # fmt: skip
    (mine,) = (one for one in trade_off if one["name"] == "the model, as it is")
    assert (mine["x"], mine["y"]) == ([0.8], [0.4])
    alike([mine["error_x"]["array"][0], mine["error_y"]["arrayminus"][0]], [0.1, 0.1])
    assert (each[0]["x"], each[0]["y"]) == ([0.3, 0.1], [-0.5, -0.5])
    filled, open_ = each[0]["marker"]["color"]
    assert filled != open_
    assert page.get_by_text("Spearman's correlation: easy 0.5 (-0.25 to 1).").count() == 1


def test_a_heads_attention_is_shaded_from_the_token_that_is_chosen(
    show: Shown, studied: Path
) -> None:
    page = show({"run": studied})
    page.get_by_text("1 of 1 problems newly failed").click()
    page.locator(".attention select").select_option("L1H2")
    text, status = (page.locator(f".attention {one}").first for one in ("pre", "[role=status]"))
    assert text.inner_text() == f"1+1=2{BAD}" and page.locator(".attention pre").count() == 2
    assert status.inner_text().startswith(f"From “{BAD}”: 1.00 on “1”.")
    text.focus()
    page.keyboard.press("ArrowLeft")
    assert status.inner_text().startswith("From “2”: 1.00 on “+1”.")
    text.locator("span").nth(0).hover()  # the prompt's tokens write nothing of the response
    assert status.inner_text().startswith("From “2”")
    text.locator("span").nth(2).hover()
    assert status.inner_text() == "From “=”: 0.80 on “=” itself, 0.20 on “1”."
    grounds = text.locator("span").evaluate_all("all => all.map(one => one.style.background)")
    assert grounds[1] == grounds[3] == "rgb(255, 255, 255)"  # the page's own
    assert len({*grounds}) == 3 and page.title() != "broken"


def test_a_run_without_evals_has_no_such_section(show: Shown, tmp_path: Path) -> None:
    assert show({"run": write_run(tmp_path / "bare")}).locator("#solving").count() == 0
