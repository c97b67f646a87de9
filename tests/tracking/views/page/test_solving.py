"""The report's section on solving in a real browser."""

from pathlib import Path

import pandas as pd

from tests.builders.browser import Shown
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


def test_a_run_without_evals_has_no_such_section(show: Shown, tmp_path: Path) -> None:
    assert show({"run": write_run(tmp_path / "bare")}).locator("#solving").count() == 0
