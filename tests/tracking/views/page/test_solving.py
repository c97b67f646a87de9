"""The report's section on solving in a real browser."""

from pathlib import Path

import pandas as pd

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
    said = {"benchmark": "easy", "problem": "p0", "sample": 0, "prompt": "1+1="}
    responses = [
        {**said, "condition": "", "response": f"2 {BAD}", "right": True},
        {**said, "condition": "zero L0H1", "response": f"3 {BAD}", "right": False},
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


def study(folder: Path) -> Path:
    """A run with all that stands beside an ablation; its responses are not there."""
    run = write_run(folder)
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
    return run


def test_labels_halves_single_heads_and_the_trade_off_are_the_files(
    show: Shown, tmp_path: Path
) -> None:
    page = show({"run": study(tmp_path / "run")})
    told = {
        name: page.get_by_label(name, exact=True).locator("tbody td").all_inner_texts()
        for name in (
            "Accuracy in easier and harder problems with sets of heads off, of final",
            "Failure labels with sets of heads off, of final",
        )
    }
    halves, labels = told.values()
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


def test_a_run_without_evals_has_no_such_section(show: Shown, tmp_path: Path) -> None:
    assert show({"run": write_run(tmp_path / "bare")}).locator("#solving").count() == 0
