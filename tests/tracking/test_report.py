"""The report's page, without a browser: what it holds, how large it is, what it refuses."""

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.tracking.conftest import make_analysis
from tracking import Ledger, Record, Timeline
from tracking.caveats import caveats
from tracking.errors import BadInput
from tracking.graph import Graph
from tracking.report import named, report, write_report

SMALL = Graph(2, 3)
EVIL = "</script><script>document.title = 'broken'</script>"


def write_run(
    folder: Path,
    steps: tuple[int, ...] = (0, 10, 20),
    graph: Graph = SMALL,
    kinds: tuple[str, ...] = ("cue",),
    probes: str = "0",
    **overrides: Any,
) -> Path:
    """A run of random heads; the same seed for the same step and kind."""
    for step in steps:
        analyses = {
            kind: drawn(graph, step + place, **overrides) for place, kind in enumerate(kinds)
        }
        record = Record(step, graph.layers, graph.heads, probes, analyses, step / 100 or None)
        Ledger(folder / "heads").write(record)
    return folder


def drawn(graph: Graph, seed: int, **overrides: Any) -> Any:
    generator = torch.Generator().manual_seed(seed)
    shape, heads = graph.edges.shape, len(graph.head_names)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator)

    edges = 0.01 * normal(*shape) ** 3 * graph.edges
    share = torch.rand(heads, generator=generator)
    fields = {
        "edges": edges,
        "strength": edges.abs(),
        "circuit": (edges.abs() > 0.02) & graph.edges,
        "edge_membership": torch.rand(*shape, generator=generator),
        "in_circuit": torch.rand(20, heads, generator=generator) < share**0.1,
        "ensemble": torch.rand(3, heads, generator=generator),
        "effect": 0.1 * normal(16, heads) + 0.2 * share,
        "roles": torch.rand(8, heads, generator=generator),
        "weights": torch.rand(5, heads, generator=generator),
    }
    return make_analysis(graph, **{**fields, **overrides})


def data_of(page: str) -> dict[str, Any]:
    packed = re.search(r'<script type="text/plain" id="packed-data">([^<]*)</script>', page)
    assert packed
    return json.loads(gzip.decompress(base64.b64decode(packed[1])))


def test_the_page_holds_the_timelines_numbers(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", kinds=("cue", "operand"))
    told, data = Timeline.read(run), data_of(report({"run": run}))
    assert data["kinds"] == ["cue", "operand"] and data["runs"][0]["steps"] == [0, 10, 20]
    for kind in told.kinds:
        heads, counts = told.of_kind(kind)
        held = data["runs"][0]["kinds"][kind]
        assert [data["states"][code] for code in held["heads"]["state"]] == heads["state"].tolist()
        assert held["heads"]["uncertain"] == heads["uncertain"].astype(int).tolist()
        for name in ("membership", "effect", "effect_low", "importance", "moved", "cohort"):
            same(held["heads"][name], heads[name])
        for name in ("reward", "new", "pruned_low", "turnover", "null_high", "faithfulness"):
            same(held["counts"][name], counts[name])


def same(held: list[Any], wanted: pd.Series) -> None:
    assert pd.Series(held, dtype=float).to_numpy() == pytest.approx(
        wanted.to_numpy(float), rel=5e-4, nan_ok=True
    )


def test_every_heads_strongest_edges_and_the_circuits_are_kept(tmp_path: Path) -> None:
    graph = Graph(3, 4)
    run = write_run(tmp_path / "run", (0,), graph)
    analysis = Timeline.read(run).records[0].analyses["cue"]
    held = data_of(report({"run": run}))["runs"][0]["kinds"]["cue"]["edges"][0]
    size = {
        (source, target): abs(float(analysis.edges[row, column]))
        for row, source in enumerate(graph.sources)
        for column, target in enumerate(graph.targets)
        if graph.edges[row, column]
    }
    kept = [
        (graph.sources[row], graph.targets[column])
        for row, column in zip(held["source"], held["target"], strict=True)
    ]
    assert [abs(one) for one in held["score"]] == pytest.approx([size[e] for e in kept], rel=5e-3)
    assert held["score"] == sorted(held["score"], key=abs, reverse=True)
    for head in graph.head_names:
        for mine in (
            [edge for edge in size if edge[0] == head],
            [edge for edge in size if edge[1].split(".")[0] == head],
        ):
            strongest = sorted(mine, key=lambda edge: size[edge], reverse=True)[:4]
            assert set(strongest) <= set(kept)
    pictured = {edge for edge, shown in zip(kept, held["pictured"], strict=True) if shown}
    circuit = [edge for edge in size if analysis.circuit[graph.index("->".join(edge))]]
    assert pictured == set(sorted(circuit, key=lambda edge: size[edge], reverse=True)[:60])


def test_the_same_ledgers_make_the_same_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert report({"run": run}) == report({"run": run})


def test_a_report_is_made_beside_a_record_that_is_being_written(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "heads" / ".step-00000030.safetensors.1.tmp").write_bytes(b"half")
    assert data_of(report({"run": run}))["runs"][0]["steps"] == [0, 10, 20]


@pytest.mark.parametrize("kinds", [("cue",), ("cue", "operand")])
def test_a_large_run_makes_a_file_under_six_megabytes(
    kinds: tuple[str, ...], tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", tuple(range(0, 300, 10)), Graph(28, 12), kinds)
    path = write_report([run], tmp_path / "report.html")
    assert path.stat().st_size < 6_000_000


def test_markup_in_names_kinds_and_recipes_stays_out_of_the_pages_own(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", kinds=(EVIL,))
    (run / "config.yaml").write_text(EVIL)
    page = report({EVIL: run})
    assert "document.title = 'broken'" not in page.replace("&lt;script&gt;document.title", "")
    assert data_of(page)["runs"][0]["name"] == data_of(page)["kinds"][0] == EVIL


def test_text_that_looks_like_a_place_of_the_frame_is_left_alone(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert "<title>Heads over training: {{data}}</title>" in report({"{{data}}": run})


def test_runs_are_named_by_the_shortest_end_of_their_path_that_tells_them_apart() -> None:
    assert list(named([Path("a/x"), Path("a/y")])) == ["x", "y"]
    assert list(named([Path("a/x"), Path("b/x")])) == ["a/x", "b/x"]
    with pytest.raises(BadInput, match=r"a/\.\./a/x is named twice"):
        named([Path("a/x"), Path("a/../a/x")])


def test_what_cannot_be_reported_or_written_is_told_in_a_line(tmp_path: Path) -> None:
    run, out = write_run(tmp_path / "run"), tmp_path / "report.html"
    (tmp_path / "empty" / "heads").mkdir(parents=True)
    (tmp_path / "bare").mkdir()
    mixed = write_run(tmp_path / "mixed", (0,))
    write_run(mixed, (10,), probes="1")
    (tmp_path / "file").write_text("")
    cases = [
        ([tmp_path / "none"], out, "no such run"),
        ([tmp_path / "bare"], out, "has no records"),
        ([tmp_path / "empty"], out, "has no records"),
        ([mixed], out, "different probes"),
        ([run, run], out, "named twice"),
        ([], out, "no run is named"),
        ([run], tmp_path, "is a folder"),
        ([run], tmp_path / "file" / "report.html", "cannot be written"),
    ]
    for runs, path, said in cases:
        with pytest.raises(BadInput, match=said) as told:
            write_report(runs, path)
        assert "\n" not in str(told.value)
    assert not out.exists()


def test_every_caveat_is_told(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run", (10, 20), faithfulness=0.1, weights=torch.full((5, 6), torch.nan)
    )
    Ledger(run / "heads").mark_failed(30, RuntimeError("out of memory"))
    (run / "heads" / "failed-00000040.json").write_text("{")
    told = "\n".join(caveats(run, Timeline.read(run)))
    for said in (
        "No record of step 0: base heads are those active at step 10",
        "'cue' probes: 2 of 2 checkpoints are weak (step 10, 20)",
        "Step 30 could not be analysed and is missing here: RuntimeError: out of memory",
        "failed-00000040.json does not say why",
        "how far weights have moved is not known",
        "too few checkpoints (2)",
    ):
        assert said in told
    page = data_of(report({"run": run}))["runs"][0]["caveats"]
    assert set(told.splitlines()) < set(page)
    assert any("config.yaml" in line for line in page)


def test_one_checkpoint_makes_a_report_that_says_what_is_missing(tmp_path: Path) -> None:
    held = data_of(report({"run": write_run(tmp_path / "run", (0,))}))["runs"][0]
    assert "nothing can be said yet" in held["kinds"]["cue"]["summary"]["sentence"]
    assert any(line.startswith("One checkpoint has been analysed") for line in held["caveats"])


def test_runs_that_do_not_compare_are_told_as_such(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", kinds=("cue", "operand"))
    second = write_run(tmp_path / "b", graph=Graph(2, 4), probes="1")
    told = data_of(report({"a": first, "b": second}))["caveats"]
    assert [line.split()[0:6] for line in told] == [
        ["The", "runs", "were", "tracked", "with", "different"],
        ["The", "runs", "are", "of", "models", "of"],
        ["No", "'operand'", "probes", "in", "b."],
    ]


def test_completions_stand_at_the_checkpoint_that_ends_their_steps(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "completions").mkdir()
    for step, reward in ((5, 0.0), (15, 1.0), (17, 0.5)):
        table = {"step": [step], "prompt": ["1+1="], "completion": [f"said at {step}"]}
        frame = pd.DataFrame({**table, "judge": [reward], "advantage": [0.0]})
        frame.to_parquet(run / "completions" / f"completions_{step:05d}.parquet")
    held = data_of(report({"run": run}))["runs"][0]["completions"]
    assert [one["completion"] for one in held["samples"]] == [
        [],
        ["said at 5"],
        ["said at 15", "said at 17"],
    ]
    assert held["solved"] == [0, 0, 1] and held["failed"] == [0, 0, 0]
    assert held["turned"]["prompt"] == ["1+1="]


def test_completions_that_cannot_be_read_are_a_caveat_and_no_end(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "completions").mkdir()
    for step in (5, 15):
        (run / "completions" / f"completions_{step:05d}.parquet").write_bytes(b"no parquet")
    held = data_of(report({"run": run}))["runs"][0]
    assert held["completions"] is None
    assert any("No completions are shown" in line for line in held["caveats"])
