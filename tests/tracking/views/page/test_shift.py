"""The report's section on what training changed, in a real browser."""

import json
from pathlib import Path

from tests.builders.browser import Shown
from tests.builders.runs import write_run
from tracking.run_folder import RunFolder


def test_every_step_stands_in_a_row_and_a_run_without_has_a_line(
    show: Shown, tmp_path: Path
) -> None:
    run, bare = (write_run(tmp_path / name) for name in ("run", "bare"))
    figures = {
        "asked": 20,
        "tokens": 90,
        "nats": 0.25,
        "concentration": 0.1,
        "concentration_of_entropy": 0.3,
    }
    figures |= {"places": 22, "prompts": 17, "level": 0.2, "behaviour": 1.5}
    bounds = {"behaviour_low": 1.25, "behaviour_high": 1.75}
    nothing = {**dict.fromkeys([*figures, *bounds]), "nats": 0.0, "places": 0, "prompts": 0}
    for step, row, nodes in ((20, nothing, []), (40, {**figures, **bounds}, ["M1", "L0H1"])):
        folder = RunFolder(run).shift(step)
        folder.mkdir(parents=True)
        why = "" if nodes else "nothing differs"
        text = json.dumps({"step": step, **row, "nodes": nodes, "why_not": why})
        (folder / "figures.json").write_text(text)
    page = show({"run": run, "bare": bare})
    rows = page.locator("#shift table tr").all()
    assert rows[1].locator("td").all_inner_texts()[-2:] == ["–", "nothing differs"]
    cells = rows[2].locator("td").all_inner_texts()
    assert cells[-2:] == ["1.5 (1.25 to 1.75)", "M1 L0H1"]
    assert "not set beside its base" in page.locator('#shift [data-run="bare"]').inner_text()
    assert page.locator("#shift .chart .scatterlayer .trace").count() == 1
    assert show({"bare": bare}).locator("#shift").count() == 0
