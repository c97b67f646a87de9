"""The report's page, without a browser: what it holds, how large it is, what it refuses."""

import json
import random
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.builders.analyses import make_analysis
from tests.builders.pages import EVIL, data_of
from tests.builders.runs import lively, write_run
from tracking import Ledger, Timeline
from tracking.errors import BadInput
from tracking.ledger.ledger import Mark
from tracking.model.graph import Graph
from tracking.settings import Settings
from tracking.timeline.activity import Thresholds
from tracking.timeline.columns import NODES, names
from tracking.timeline.coupling import CAVEAT, Coupling
from tracking.timeline.summary import Summary
from tracking.timeline.survival import cohort_table, survival
from tracking.views.caveats import caveats
from tracking.views.drawing import shown
from tracking.views.palette import untold
from tracking.views.report import named, report, write_report
from train.ablation.attention import BYTES


def test_the_page_holds_the_timelines_numbers(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", contrasts=("cue", "operand"))
    timeline, data = Timeline.read(run), data_of(report({"run": run}))
    assert data["contrasts"] == ["cue", "operand"] and data["runs"][0]["steps"] == [0, 10, 20]
    for contrast in timeline.contrasts:
        nodes, counts = timeline.of_contrast(contrast)
        held = data["runs"][0]["contrasts"][contrast]
        assert [data["states"][code] for code in held["nodes"]["state"]] == nodes["state"].tolist()
        doubted, unsure = untold(nodes), nodes["undecided"]
        assert [one > 0 for one in held["nodes"]["undecided"]] == doubted.tolist()
        assert [one == 1 for one in held["nodes"]["undecided"]] == (doubted & unsure).tolist()
        assert held["nodes"]["active"] == nodes["active"].astype(int).tolist()
        for name in ("role", "drift", "origin"):
            assert held["nodes"][name] == nodes[name].tolist()
        for name in ("fate", "lasting"):
            assert held["nodes"][name] == nodes[name].tolist()[-8:]
        table = list(names(NODES, "in_page"))
        same({name: held["nodes"][name] for name in table}, nodes[table])
        rows, left_out = shown(nodes)
        assert [timeline.records[0].graph.nodes[place] for place in held["rows"]] == rows
        assert held["left_out"] == left_out == 0
        same(held["counts"], counts.drop(columns="contrast"))


def test_the_page_holds_what_follows_from_the_timeline(tmp_path: Path) -> None:
    run = lively(tmp_path / "run")
    timeline, data = Timeline.read(run), data_of(report({"run": run}))
    for contrast in timeline.contrasts:
        nodes, counts = timeline.of_contrast(contrast)
        held = data["runs"][0]["contrasts"][contrast]
        same(held["cohorts"], cohort_table(nodes, contrast))
        same(held["survival"], survival(nodes, contrast))
        coupling = Coupling.of(nodes, counts, contrast)
        assert len(coupling.table) and len(coupling.per_node) and coupling.hazard.n
        same(held["coupling"]["table"], coupling.table)
        same(held["coupling"]["per_node"], coupling.per_node.sort_values(["p", "node"]))
        same(held["coupling"]["hazard"], coupling.hazard.table)
        same(
            {name: [held["coupling"][name]] for name in ("correlation", "p", "n")},
            pd.DataFrame([vars(coupling.hazard)])[["correlation", "p", "n"]],
        )
        assert held["coupling"]["note"] == coupling.note
        assert held["coupling"]["caveat"] == CAVEAT
        assert held["coupling"]["reward_name"] == "reward"
        expected, summary = Summary.of(timeline, contrast), held["summary"]
        assert summary["sentence"] == expected.sentence == " ".join(summary["parts"])
        assert len(summary["parts"]) == 4 and summary["regime"] == expected.regime.word
        assert summary["carriers"] == {name: list(of) for name, of in expected.carriers.items()}
        for name in ("faded", "transient", "weaknesses", "undecided"):
            assert summary[name] == list(getattr(expected, name))
        for name in ("verdict", "sound", "checkpoints"):
            assert summary[name] == getattr(expected, name)
        for name in ("growth", "wiring", "wiring_null"):
            figure = getattr(expected, name)
            ends = (figure.value, figure.low, figure.high)
            assert summary[name] == pytest.approx(ends, rel=5e-4)
        assert summary["behaviour"][0] == pytest.approx(expected.behaviour[1].value, rel=5e-4)


def test_the_page_holds_the_wiring_of_every_record_that_has_it(tmp_path: Path) -> None:
    graph = Graph(2, 3)
    missing = [graph.index("M1->logits"), graph.index("L0H1->L1H2.v")]
    kept = make_analysis(graph).wiring
    assert kept is not None
    lacking = replace(kept, missing=torch.tensor(missing), restored=torch.tensor([0.25, 0.125]))
    run = write_run(tmp_path / "run", (0,), wiring=None)
    write_run(run, (10,), wiring=lacking)
    write_run(run, (20,), wiring=lacking, clean=torch.full((16,), -2.0))
    held = data_of(report({"run": run}))["runs"][0]["contrasts"]["cue"]["wiring"]
    assert held[0] is None and held[2] is None  # the first, and one without behaviour
    for name in ("sizes", "own", "old", "half"):
        assert held[1]["curves"][name] == pytest.approx(getattr(kept, name).tolist(), rel=5e-4)
    places = list(zip(held[1]["source"], held[1]["target"], strict=True))
    assert places == missing and held[1]["restored"] == [0.25, 0.125]


def test_the_page_holds_the_records_circuits_and_curves(tmp_path: Path) -> None:
    curve = torch.tensor([[0.01, 0.3, 0.1, 0.4], [0.2, 0.8, 0.7, 0.9], [1, 1, 0.95, 1.05]])
    settings = {"thresholds": asdict(Thresholds(weak_faithfulness=0.55))}
    run = write_run(tmp_path / "run", facts=settings, curve=curve)
    timeline = Timeline.read(run)
    held = data_of(report({"run": run}))["runs"][0]["contrasts"]["cue"]
    table = pd.DataFrame(curve.numpy(), columns=["share", "value", "low", "high"])
    for one in held["curves"]:
        same(one, table)
    circuits = [int(record.analyses["cue"].circuit.circuit.sum()) for record in timeline.records]
    assert held["circuit_edges"] == circuits
    # embedding, heads and MLPs below feed three reads a head, the MLP and the logits
    assert held["all_edges"] == (1 * 3 * 3 + 4) + (5 * 3 * 3 + 8) + 9
    assert held["wanted"] == 0.55


def same(held: dict[str, list[Any]], wanted: pd.DataFrame) -> None:
    assert list(held) == list(wanted)
    for name in held:
        if not pd.api.types.is_numeric_dtype(wanted[name]):
            assert held[name] == wanted[name].tolist()
            continue
        assert pd.Series(held[name], dtype=float).to_numpy() == pytest.approx(
            wanted[name].to_numpy(float), rel=5e-4, nan_ok=True
        )


def test_a_loss_and_an_accuracy_are_not_one_curve(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run", (0, 10, 20), facts={"reward_name": "eval_mean_token_accuracy"}
    )
    write_run(run, (15,), facts={"reward_name": "loss", "reward": 3.0})
    held = data_of(report({"run": run}))["runs"][0]["contrasts"]["cue"]
    assert held["coupling"]["reward_name"] == "token accuracy"
    assert set(held["counts"]["reward_name"]) == {"token accuracy"}
    known = [value is not None for value in held["counts"]["reward"]]
    assert known == [False, True, False, True]


def test_where_the_behaviour_is_absent_no_faithfulness_is_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", (0, 10))
    write_run(run, (20,), clean=torch.full((16,), -2.0))
    held = data_of(report({"run": run}))["runs"][0]["contrasts"]["cue"]
    assert held["summary"]["verdict"] == "absent"
    for name in ("faithfulness", "faithfulness_low", "wiring_kept", "wiring_null_high"):
        assert [value is None for value in held["counts"][name]] == [False, False, True]
    assert [len(one["share"]) for one in held["curves"]] == [2, 2, 0]


def test_every_nodes_strongest_edges_and_the_circuits_are_kept(tmp_path: Path) -> None:
    graph = Graph(3, 4)
    run = write_run(tmp_path / "run", (0,), graph)
    analysis = Timeline.read(run).records[0].analyses["cue"]
    held = data_of(report({"run": run}))["runs"][0]["contrasts"]["cue"]["edges"][0]
    size = {
        (source, target): abs(float(analysis.scores.edge_scores[row, column]))
        for row, source in enumerate(graph.sources)
        for column, target in enumerate(graph.targets)
        if graph.edge_mask[row, column]
    }
    kept = [
        (graph.sources[row], graph.targets[column])
        for row, column in zip(held["source"], held["target"], strict=True)
    ]
    assert [abs(one) for one in held["score"]] == pytest.approx([size[e] for e in kept], rel=5e-3)
    assert held["score"] == sorted(held["score"], key=abs, reverse=True)
    for node in graph.nodes:
        for mine in (
            [edge for edge in size if edge[0] == node],
            [edge for edge in size if edge[1].split(".")[0] == node],
        ):
            strongest = sorted(mine, key=lambda edge: size[edge], reverse=True)[:4]
            assert set(strongest) <= set(kept)
    pictured = {edge for edge, shown in zip(kept, held["pictured"], strict=True) if shown}
    circuit = [edge for edge in size if analysis.circuit.circuit[graph.index("->".join(edge))]]
    assert pictured == set(sorted(circuit, key=lambda edge: size[edge], reverse=True)[:60])


def test_the_same_ledgers_make_the_same_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert report({"run": run}) == report({"run": run})


def test_a_report_is_made_beside_a_record_that_is_being_written(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "heads" / ".step-00000030.safetensors.1.tmp").write_bytes(b"half")
    assert data_of(report({"run": run}))["runs"][0]["steps"] == [0, 10, 20]


def test_a_large_run_makes_a_file_under_six_megabytes(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", tuple(range(0, 300, 10)), Graph(28, 12), ("cue", "operand"))
    (run / "evals" / "final").mkdir(parents=True)
    row = {"change": -0.5, "change_low": -0.6, "change_high": -0.4, "p": 0.5, "smallest": 0.1,
           "on": 1.0, "off": 0.5, "benchmark": "words", "problems": 9, "mode": "zero",
           "heads": "active", "nodes": "L0H1"}  # fmt: skip
    pd.DataFrame([row]).to_parquet(run / "evals" / "final" / "ablation.parquet")
    kept = {"benchmark": "words", "problem": "p", "sample": 0, "condition": "zero L0H1",
            "heads": ["L0H1"], "first": 0, "before_tokens": ["a"] * 256, "after_tokens": [],
            "before_weights": random.Random(0).randbytes(BYTES), "after_weights": b""}  # fmt: skip
    pd.DataFrame([kept]).to_parquet(run / "evals" / "final" / "attention.parquet")
    path = write_report([run], tmp_path / "report.html")
    assert path.stat().st_size < 6_000_000


def test_markup_in_names_kinds_and_recipes_stays_out_of_the_pages_own(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", contrasts=(EVIL,))
    (run / "config.yaml").write_text(EVIL)
    page = report({EVIL: run})
    assert "document.title = 'broken'" not in page.replace("&lt;script&gt;document.title", "")
    assert data_of(page)["runs"][0]["name"] == data_of(page)["contrasts"][0] == EVIL


def test_text_that_looks_like_a_place_of_the_frame_is_left_alone(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert "<title>Behaviour over training: {{data}}</title>" in report({"{{data}}": run})


def test_runs_are_named_by_the_shortest_path_that_tells_them_apart() -> None:
    assert list(named([Path("a/x"), Path("a/y")])) == ["x", "y"]
    assert list(named([Path("a/x"), Path("b/x")])) == ["a/x", "b/x"]
    with pytest.raises(BadInput, match=r"a/\.\./a/x is named twice"):
        named([Path("a/x"), Path("a/../a/x")])


def test_what_cannot_be_reported_or_written_is_told_in_a_line(tmp_path: Path) -> None:
    run, out = write_run(tmp_path / "run"), tmp_path / "report.html"
    (tmp_path / "empty" / "heads").mkdir(parents=True)
    (tmp_path / "bare").mkdir()
    mixed = write_run(tmp_path / "mixed", (0,))
    write_run(mixed, (10,), pairs="1")
    (tmp_path / "file").write_text("")
    cases = [
        ([tmp_path / "none"], out, "no such run"),
        ([tmp_path / "bare"], out, "has no records"),
        ([tmp_path / "empty"], out, "has no records"),
        ([mixed], out, "different pairs"),
        ([run, run], out, "named twice"),
        ([], out, "no run is named"),
        ([run], tmp_path, "is a folder"),
        ([run], tmp_path / "file" / "report.html", "cannot be written"),
    ]
    for runs, path, words in cases:
        with pytest.raises(BadInput, match=words) as refused:
            write_report(runs, path)
        assert "\n" not in str(refused.value)
    assert not out.exists()


def test_every_caveat_is_told(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run", (10, 20), faithfulness=0.1, weight_change=torch.full((5, 6), torch.nan)
    )
    Ledger(run / "heads").mark_failed(30, RuntimeError("out of memory"))
    Ledger(run / "heads").mark(Mark(40, "budget", "budget of 0.05 spent"))
    timeline = Timeline.read(run)
    text = "\n".join(caveats(run, timeline))
    unsure = int((timeline.at(20, "cue")["state"] == "undecided").sum())
    assert unsure
    for words in (
        "No record of step 0: base nodes are those active at step 10",
        "2 checkpoints have been analysed: whether a change is more than the run's own",
        "No control was given",
        "'cue' pairs: 2 of 2 checkpoints are weak (step 10, 20)",
        "at step 20 faithfulness 0.10",
        f"of {unsure} of 8 nodes the first checkpoint could not tell",
        "Step 30 was not analysed and is missing here: RuntimeError: out of memory (failed)",
        "Step 40 was not analysed and is missing here: budget of 0.05 spent (budget)",
        "the change of weights is not known",
        "too few checkpoints (2)",
    ):
        assert words in text
    page = data_of(report({"run": run}))["runs"][0]["caveats"]
    assert set(text.splitlines()) < set(page)
    assert any("config.yaml" in line for line in page)


def test_a_long_sound_run_with_a_control_has_few_caveats(tmp_path: Path) -> None:
    run, steps = tmp_path / "run", tuple(range(0, 300, 10))
    write_run(run, steps, share=0.3 * torch.eye(8)[1])
    lines = caveats(run, Timeline.read(run, control=Timeline.read(run)))
    assert ["beside the reward" in line for line in lines] == [True]  # it takes 80 to say little


def test_a_control_of_fewer_steps_is_told(tmp_path: Path) -> None:
    run, short = write_run(tmp_path / "run", (0, 10, 20)), write_run(tmp_path / "short", (0, 10))
    lines = caveats(run, Timeline.read(run, control=Timeline.read(short)))
    assert any("ends at step 10, the run at step 20" in line for line in lines)
    lines = caveats(short, Timeline.read(short, control=Timeline.read(run)))
    assert not any("control" in line.lower() for line in lines)


def test_records_of_before_are_told(tmp_path: Path) -> None:
    unknown = torch.full((16,), torch.nan)
    run = write_run(tmp_path / "run", (0,), clean=unknown, corrupted=unknown)
    write_run(run, (10,))
    text = "\n".join(caveats(run, Timeline.read(run)))
    assert "records without effects or behaviour (step 0), of an older version" in text


def test_a_control_sets_drift_apart_on_the_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", (0,), share=0.3 * torch.eye(8)[1])
    write_run(run, (10,), share=0.6 * torch.eye(8)[1])
    still = write_run(tmp_path / "still", (0, 10), share=0.3 * torch.eye(8)[1])
    control = Timeline.read(still)
    for against, word in ((None, "drifted"), (control, "grown")):
        held = data_of(report({"run": run}, against))["runs"][0]
        assert held["contrasts"]["cue"]["nodes"]["drift"][8 + 1] == word
        warned = any("No control was given" in line for line in held["caveats"])
        assert warned == (against is None)


def test_one_checkpoint_makes_a_report_that_says_what_is_missing(tmp_path: Path) -> None:
    held = data_of(report({"run": write_run(tmp_path / "run", (0,))}))["runs"][0]
    assert "nothing can be said yet" in held["contrasts"]["cue"]["summary"]["sentence"]
    assert any(line.startswith("One checkpoint has been analysed") for line in held["caveats"])


def test_runs_that_do_not_compare_are_told_as_such(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", contrasts=("cue", "operand"))
    second = write_run(tmp_path / "b", graph=Graph(2, 4), pairs="1")
    lines = data_of(report({"a": first, "b": second}))["caveats"]
    assert [line.split()[0:6] for line in lines] == [
        ["The", "runs", "were", "tracked", "with", "different"],
        ["The", "runs", "are", "of", "models", "of"],
        ["No", "'operand'", "pairs", "in", "b."],
    ]


def test_settings_that_differ_between_runs_are_told_but_not_procedure(
    tmp_path: Path,
) -> None:
    runs = {}
    settings_by_run = (("a", "float32", 100, 1.0), ("b", "bfloat16", 200, 0.1))
    for name, precision, resamples, budget in settings_by_run:
        settings = vars(Settings(resamples=resamples, budget=budget))
        facts = {"settings": settings, "precision": precision}
        runs[name] = write_run(tmp_path / name, facts=facts)
    assert data_of(report(runs))["caveats"] == [
        "The runs were tracked with different precisions (a float32, b bfloat16).",
        "The runs were tracked with different settings of resamples (a 100, b 200).",
    ]


@pytest.mark.parametrize(
    ("strategy", "evaluated", "message"),
    [
        ("no", None, None),
        ("steps", None, "both are taken for training's"),
        ("steps", 15, "The completions of 1 of 2 logged steps are left out"),
        ("steps", 12, None),
    ],
)
def test_completions_that_may_be_evaluations_are_told(
    tmp_path: Path, strategy: str, evaluated: int | None, message: str | None
) -> None:
    run = write_run(tmp_path / "run")
    (run / "config.yaml").write_text(f"eval_strategy: {strategy}\n")
    (run / "completions").mkdir()
    for step in (5, 15):
        table = {"step": [step], "prompt": ["p"], "completion": [f"{step}"], "judge": [1.0]}
        frame = pd.DataFrame({**table, "advantage": [0.0]})
        frame.to_parquet(run / "completions" / f"completions_{step:05d}.parquet")
    if evaluated:
        (run / "checkpoint-20").mkdir()
        state = {"log_history": [{"step": evaluated, "eval_loss": 1.0}]}
        (run / "checkpoint-20" / "trainer_state.json").write_text(json.dumps(state))
    lines = [line for line in caveats(run, Timeline.read(run)) if "evaluat" in line]
    assert len(lines) == bool(message) and all(message in line for line in lines if message)
    samples = data_of(report({"run": run}))["runs"][0]["completions"]["samples"]
    assert [len(one["step"]) for one in samples] == [0, 1, evaluated != 15]


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
