"""What a run solves, on the report's page: written by hand, and counted by hand."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.builders.pages import EVIL, data_of
from tests.builders.runs import write_run
from tracking.errors import BadInput
from tracking.views.report import report
from tracking.views.solving.tables import beside, in_words

ROW = {
    "heads": "active",
    "nodes": "L0H1,L1H2",
    "benchmark": "easy",
    "problems": 7,
    "on": 1.0,
    "off": 0.25,
    "change": -0.75,
    "change_low": -0.9,
    "change_high": -0.5,
    "p": 1e-6,
    "smallest": 0.2,
    "norm_less": -0.4,
    "norm_less_low": -0.6,
    "norm_less_high": -0.2,
    "norm_beyond": True,
}
MLP = {**ROW, "heads": "M1", "nodes": "M1", "p": 0.3, "norm_less": None, "norm_beyond": None}


def response(problem: str, sample: int, condition: str, right: bool | None) -> dict[str, Any]:
    text = f"{condition} {problem} {sample} {EVIL}"
    return {
        "benchmark": "easy",
        "problem": problem,
        "sample": sample,
        "condition": condition,
        "prompt": f"{problem}?",
        "response": text,
        "right": right,
    }


def solving(tmp_path: Path, rows: list[dict[str, Any]], responses: list[dict[str, Any]]) -> Path:
    run = write_run(tmp_path / "run")
    folder = run / "evals" / "final"
    (folder / "responses").mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(folder / "ablation.parquet")
    for part, one in enumerate(responses):
        path = folder / "responses" / f"part-{part:06}.parquet"
        pd.DataFrame([one]).to_parquet(path)
    return run


def held(run: Path) -> dict[str, Any]:
    return data_of(report({"run": run}))["runs"][0]["solving"]


def test_accuracy_stands_by_step_and_benchmark(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for step in (100, 0, 20):  # in the order of steps, whatever was written first
        folder = run / "evals" / f"step-{step:08}"
        folder.mkdir(parents=True)
        rows = {"avg": [step / 100, 0.5], "avg_low": [0.0, 0.4], "avg_high": [1.0, 0.6]}
        table = pd.DataFrame({"benchmark": ["easy", "hard"], **rows})
        table.to_parquet(folder / "summary.parquet")
    accuracy = held(run)["accuracy"]
    assert accuracy["step"] == [0, 0, 20, 20, 100, 100]
    assert accuracy["benchmark"] == ["easy", "hard"] * 3
    assert accuracy["avg"] == [0, 0.5, 0.2, 0.5, 1, 0.5]
    assert held(run)["studies"] == []


def test_the_closing_line_has_the_first_and_the_last_accuracy() -> None:
    rows = [(0, "easy", 0.2, 0.1, 0.3), (10, "easy", 0.4, 0.3, 0.5), (20, "easy", 0.9, 0.8, 1.0),
            (20, "one", 1.0, float("nan"), float("nan"))]  # fmt: skip
    table = pd.DataFrame(rows, columns=["step", "benchmark", "avg", "avg_low", "avg_high"])
    assert in_words(table) == [
        "accuracy in easy: 0.200 (0.100-0.300) at step 0, 0.900 (0.800-1.000) at step 20",
        "accuracy in one: 1.000 at step 20",
    ]
    assert in_words(table[:0]) == []


def test_the_ablation_is_the_tables_with_significant_rows_marked(tmp_path: Path) -> None:
    run = solving(tmp_path, [{**ROW, "mode": "zero"}, {**MLP, "mode": "mean"}], [])
    table = held(run)["studies"][0]["table"]
    assert table["heads"] == ["active", "M1"] and table["change"] == [-0.75, -0.75]
    assert table["significant"] == [True, False]
    assert table["norm_less"] == [-0.4, None] and table["norm_beyond"] == [True, False]


def test_files_beside_an_ablation_are_read_where_they_are(tmp_path: Path) -> None:
    assert beside(tmp_path) == {}
    single = {**ROW, "mode": "zero"}
    pd.DataFrame([single]).to_parquet(tmp_path / "heads.parquet")  # of a version without shares
    pd.DataFrame([{**single, "label": "loop"}]).to_parquet(tmp_path / "labels.parquet")
    pd.DataFrame().to_parquet(tmp_path / "predictions.parquet")
    tables = beside(tmp_path)
    assert {*tables} == {"heads", "labels"}
    assert "share" not in tables["heads"] and list(tables["labels"]["norm_less"]) == [-0.4]
    pd.DataFrame([{"label": "loop"}]).to_parquet(tmp_path / "labels.parquet")
    with pytest.raises(BadInput, match=r"labels\.parquet: no column heads"):
        beside(tmp_path)


def test_problems_turn_at_the_same_sample_number_alone(tmp_path: Path) -> None:
    off = "zero L0H1,L1H2"
    rows = [response(f"p{i}", sample, "", i < 7) for i in range(8) for sample in (0, 1)]
    # p0 to p5 fail at sample 1, p6 is not graded, p7 is newly solved at both
    rows += [response(f"p{i}", sample, off, sample == 0) for i in range(6) for sample in (0, 1)]
    rows += [
        response("p6", 0, off, None),
        response("p7", 1, off, True),
        response("p7", 0, off, True),
    ]
    rows += [response("p0", 0, "zero L0H0", False), response("p9", 0, off, False)]
    run = solving(tmp_path, [{**MLP, "mode": "zero"}, {**ROW, "mode": "zero"}], rows)
    (turned,) = held(run)["studies"][0]["turned"]  # of the significant row alone
    assert (turned["row"], turned["problems"], turned["responses"]) == (1, 7, 14)
    assert (turned["failed"], turned["failed_responses"]) == (6, 6)
    assert (turned["solved"], turned["solved_responses"]) == (1, 2)
    texts = turned["texts"]
    assert texts["problem"] == ["p0", "p1", "p2", "p3", "p4", "p7"]
    assert texts["change"] == ["failed"] * 5 + ["solved"]
    assert texts["sample"] == [1] * 5 + [0]
    assert texts["before"][0] == f" p0 1 {EVIL}" and texts["after"][0] == f"{off} p0 1 {EVIL}"


def test_grafts_are_compared_with_the_base_they_were_put_into(tmp_path: Path) -> None:
    run = solving(tmp_path, [{**ROW, "mode": "graft"}], [response("p0", 0, "", True)])
    folder = run / "evals" / "final" / "grafts" / "responses"
    folder.mkdir(parents=True)
    rows = [response("p0", 0, "", False), response("p0", 0, "graft L0H1,L1H2", True)]
    pd.DataFrame(rows).to_parquet(folder / "part-000000.parquet")
    (turned,) = held(run)["studies"][0]["turned"]
    assert (turned["failed"], turned["solved"]) == (0, 1)


def test_markup_in_responses_stays_packed_text(tmp_path: Path) -> None:
    rows = [response("p0", 0, "", True), response("p0", 0, "zero L0H1,L1H2", False)]
    page = report({"run": solving(tmp_path, [{**ROW, "mode": "zero"}], rows)})
    assert EVIL not in page
    texts = data_of(page)["runs"][0]["solving"]["studies"][0]["turned"][0]["texts"]
    assert EVIL in texts["after"][0]


def test_without_evals_nothing_of_it_is_in_the_page(tmp_path: Path) -> None:
    page = report({"run": write_run(tmp_path / "run")})
    assert "solving" not in data_of(page)["runs"][0] and "SECTIONS.splice" not in page


@pytest.mark.parametrize("name", ["ablation.parquet", "responses/part-000000.parquet"])
def test_a_damaged_or_foreign_file_is_told_in_a_line(tmp_path: Path, name: str) -> None:
    rows = [response("p0", 0, "", True), response("p0", 0, "zero L0H1,L1H2", False)]
    run = solving(tmp_path, [{**ROW, "mode": "zero"}], rows)
    path = run / "evals" / "final" / name
    pd.DataFrame({"other": [1]}).to_parquet(path)
    with pytest.raises(BadInput, match="no column"):
        report({"run": run})
    path.write_bytes(b"no parquet")
    with pytest.raises(BadInput, match=f"{path.name}: not a whole parquet file") as refused:
        report({"run": run})
    assert "\n" not in str(refused.value)
