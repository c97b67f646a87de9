"""`sparks compare`, end to end on small models."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.builders.checkpoints import QUICK, save_checkpoints, save_model, write_pairs
from tests.builders.runs import write_run
from tests.builders.two_models import changed, write_completions
from tracking import BadInput, Ledger
from train.commands import compare, track

Printed = pytest.CaptureFixture[str]


def compared(folder: Path, *words: object) -> Path:
    """The folder that `sparks compare` writes into."""
    compare.main([str(word) for word in (*words, "--output_dir", folder, *QUICK)])
    return folder


def louder(folder: Path, gain: float, copy: Path) -> Path:
    """A copy of a model with a gain on its last norm."""
    shutil.copytree(folder, copy)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.norm.weight *= gain
    model.save_pretrained(copy)
    return copy


def read(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"{name}.csv", keep_default_na=False)


def test_a_copy_differs_in_nothing(tmp_path: Path, capsys: Printed) -> None:
    one = save_model(tmp_path / "one", seed=3)
    other = shutil.copytree(one, tmp_path / "other")
    out = compared(tmp_path / "out", one, other, "--pairs", write_pairs(tmp_path, 16))
    assert not read(out, "behaviour_differences")["differs"].any()
    assert not read(out, "node_differences")["differs"].any()
    assert not read(out, "nodes")["word"].isin(["only", "some"]).any()
    assert "one and other are of one base" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tracked", "read_in"),
    [("", "float32"), ("float32", "float32"), ("bfloat16", "bfloat16")],
)
def test_models_saved_in_two_precisions_are_read_in_one(
    tmp_path: Path, capsys: Printed, tracked: str, read_in: str
) -> None:
    """In that of the records that are there, or else in the wider."""
    theirs, pairs = save_checkpoints(tmp_path / "theirs", (3,)), write_pairs(tmp_path, 16)
    one, run = theirs / "checkpoint-3", tmp_path / "run"
    other = louder(one, 2.0, tmp_path / "other")
    halved = other if tracked == "float32" else one
    model: Any = AutoModelForCausalLM.from_pretrained(halved)
    model.bfloat16().save_pretrained(halved)
    if tracked:
        words = (theirs, "--pairs", pairs, "--output_dir", run, *QUICK)
        track.main([str(word) for word in words])
    out = compared(tmp_path / "out", run if tracked else one, other, "--pairs", pairs)
    records = [Ledger(heads).read(0) for heads in out.glob("records/*/heads")]
    assert [record.precision for record in records] == [read_in] * (1 if tracked else 2)
    assert "different precisions" not in capsys.readouterr().out
    assert len(read(out, "parts"))


def test_a_gain_changes_the_behaviour_alone(tmp_path: Path) -> None:
    one = save_model(tmp_path / "one", seed=3)
    other = louder(one, 2.0, tmp_path / "other")
    out = compared(tmp_path / "out", one, other, "--pairs", write_pairs(tmp_path, 16))
    each = read(out, "behaviour").set_index("model")["behaviour"]
    assert each["other"] == pytest.approx(2 * each["one"], rel=1e-4)
    assert not read(out, "node_differences")["differs"].any()


def test_a_second_time_nothing_is_analysed_again(tmp_path: Path, capsys: Printed) -> None:
    models = [save_model(tmp_path / name, seed) for seed, name in enumerate("ab")]
    pairs = write_pairs(tmp_path)
    compared(tmp_path / "out", *models, "--pairs", pairs)
    assert capsys.readouterr().out.count("analysing") == 2
    first = (tmp_path / "out" / "behaviour.csv").read_bytes()
    compared(tmp_path / "out", *models, "--pairs", pairs)
    assert "analysing" not in capsys.readouterr().out
    assert (tmp_path / "out" / "behaviour.csv").read_bytes() == first
    save_model(models[1], seed=7)  # another model of that name
    compared(tmp_path / "out", *models, "--pairs", pairs)
    assert capsys.readouterr().out.count("analysing") == 1


def test_what_is_compared_so_far_stays_where_the_rest_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(_comparison: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "SECTIONS", (*compare.SECTIONS[:2], ended))
    models = [save_model(tmp_path / name, seed) for seed, name in enumerate("ab")]
    with pytest.raises(KeyboardInterrupt):
        compared(tmp_path / "out", *models, "--pairs", write_pairs(tmp_path))
    assert list(read(tmp_path / "out", "behaviour")["model"]) == ["a", "b"]
    assert "# Behaviour" in (tmp_path / "out" / "findings.txt").read_text()


def test_runs_are_compared_by_their_own_records(tmp_path: Path, capsys: Printed) -> None:
    theirs, pairs = save_checkpoints(tmp_path / "theirs", (100, 200)), write_pairs(tmp_path)
    words = [theirs, "--pairs", pairs, "--output_dir", tmp_path / "run", *QUICK]
    track.main([str(word) for word in words])
    capsys.readouterr()
    out = compared(tmp_path / "out", f"{tmp_path / 'run'}@100", tmp_path / "run")
    printed = capsys.readouterr().out
    assert "analysing" not in printed and "run@100" in printed
    clean = Ledger(tmp_path / "run" / "heads").read(200).analyses["letters"].behaviour
    mean = float((clean.clean - clean.corrupted).mean())
    assert read(out, "behaviour").set_index("model")["behaviour"]["run"] == pytest.approx(mean)
    shutil.rmtree(theirs / "checkpoint-200")
    compared(tmp_path / "out", f"{tmp_path / 'run'}@100", tmp_path / "run")
    assert "run's weights are gone: no ranking is tried in it" in capsys.readouterr().out


def test_a_run_beside_its_base_begins_with_what_changed(tmp_path: Path, capsys: Printed) -> None:
    base = save_model(tmp_path / "base", seed=3)
    theirs, run = tmp_path / "theirs", tmp_path / "run"
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    for step in (100, 200):
        shutil.copytree(base, theirs / f"checkpoint-{step}")
    changed(model, 1).save_pretrained(theirs / "checkpoint-200")
    pairs = write_pairs(tmp_path)
    words = [theirs, "--pairs", pairs, "--output_dir", run, *QUICK]
    track.main([str(word) for word in words])
    write_completions(run, ["1+2", "3*4", "(5-6)", "7+8", "2*2", "9-1", "1+1", "6*(2+1)"])
    capsys.readouterr()
    control = shutil.copytree(run, tmp_path / "control")
    out = compared(tmp_path / "out", base, run, "--control", control, "--problems", 6)
    printed = capsys.readouterr().out
    assert printed.index("What training changed from base to run") < printed.index("Behaviour")
    assert "At this model's places the control shows 1.00 (1.00 to 1.00)" in printed
    assert "More than the control's node does there carries: no node for sure." in printed
    assert (out / "shift_run.html").read_text().count('class="text"') == 12
    shares: Any = read(out, "shift_parts_run").set_index("part").loc["everything"]
    assert shares["lost_share"] == pytest.approx(1, abs=1e-4)
    compared(tmp_path / "other", base, run, "--problems", 0)
    assert "What training changed" not in capsys.readouterr().out
    write_completions(run, ["1+2"], step=2, system="another system prompt")
    compared(tmp_path / "other", base, run)
    printed = capsys.readouterr().out
    assert (
        "what changed in run is not looked for" in printed
        and "What training changed" not in printed
    )


def test_a_control_of_another_base_is_refused_or_gives_no_level(
    tmp_path: Path, capsys: Printed
) -> None:
    base, pairs = save_model(tmp_path / "base", seed=3), write_pairs(tmp_path)
    for name, seed in (("theirs", 3), ("others", 4)):
        for step in (100, 200):
            save_model(tmp_path / name / f"checkpoint-{step}", seed)
        words = [tmp_path / name, "--pairs", pairs, "--output_dir", tmp_path / f"{name}-run"]
        track.main([str(word) for word in (*words, *QUICK)])
        write_completions(tmp_path / f"{name}-run", ["1+2", "3*4"])
    with pytest.raises(BadInput, match="others-run is not of the base of base: cosine"):
        words = [base, tmp_path / "theirs-run", "--control", tmp_path / "others-run"]
        compared(tmp_path / "out", *words)
    assert not (tmp_path / "out").exists()
    control = shutil.copytree(tmp_path / "theirs-run", tmp_path / "control")
    both = [
        base,
        tmp_path / "theirs-run",
        tmp_path / "others/checkpoint-100",
        tmp_path / "others-run",
    ]
    compared(tmp_path / "out", *both, "--control", control, "--problems", 2)
    printed = capsys.readouterr().out
    assert printed.count("note       --control is not of the base of others-run: cosine") == 1
    assert "not of the base of theirs-run" not in printed


def test_what_cannot_be_compared_is_refused_in_one_line(tmp_path: Path) -> None:
    models = [save_model(tmp_path / name, seed) for seed, name in enumerate("ab")]
    with pytest.raises(BadInput, match="two models are compared at least"):
        compared(tmp_path / "out", models[0])
    with pytest.raises(BadInput, match="--pairs is missing"):
        compared(tmp_path / "out", *models)
    with pytest.raises(BadInput, match="unrecognized arguments: --wat"):
        compared(tmp_path / "out", *models, "--wat")
    with pytest.raises(BadInput, match="--benchmarks goes with --contrast opening alone"):
        compared(tmp_path / "out", *models, "--benchmarks", "tiny-hard")
    with pytest.raises(BadInput, match="--problems is -1; at least 0"):
        compared(tmp_path / "out", *models, "--problems", "-1")


def test_a_control_gives_the_behaviour_its_level(tmp_path: Path, capsys: Printed) -> None:
    theirs, pairs = save_checkpoints(tmp_path / "theirs", (100, 200)), write_pairs(tmp_path)
    words = [theirs, "--pairs", pairs, "--output_dir", tmp_path / "run", *QUICK]
    track.main([str(word) for word in words])
    run = tmp_path / "run"
    with pytest.raises(BadInput, match="run holds a run or a model; name another folder"):
        compared(run, f"{run}@100", run)
    with pytest.raises(BadInput, match="jsonl is a file; name a folder"):
        compared(pairs, f"{run}@100", run)
    with pytest.raises(BadInput, match="run is compared itself; name a run that"):
        compared(tmp_path / "out", f"{run}@100", run, "--control", run)
    control = shutil.copytree(run, tmp_path / "control")
    out = compared(tmp_path / "out", f"{run}@100", run, "--control", control)
    between = read(out, "behaviour_differences")
    assert between["control"].tolist() == pytest.approx(between["difference"].tolist())
    printed = capsys.readouterr().out
    assert "a control run's behaviour moves by" in printed
    assert "The control's ends are 100 steps apart, and run is of step 200" in printed
    with pytest.raises(BadInput, match="it takes two checkpoints"):
        single = tmp_path / "single"
        words = [theirs / "checkpoint-100", "--pairs", pairs, "--output_dir", single, *QUICK]
        track.main([str(word) for word in words])
        compared(tmp_path / "out", f"{run}@100", run, "--control", single)
    other = save_checkpoints(tmp_path / "other", (100, 200), heads=2)
    words = [other, "--pairs", pairs, "--output_dir", tmp_path / "wider", *QUICK]
    track.main([str(word) for word in words])
    with pytest.raises(BadInput, match=r"is of another shape: .* has heads 2"):
        compared(tmp_path / "out", f"{run}@100", run, "--control", tmp_path / "wider")


def test_models_of_other_shapes_are_matched_by_function(tmp_path: Path, capsys: Printed) -> None:
    one = save_model(tmp_path / "one", seed=0)
    other = save_model(tmp_path / "other", seed=0, heads=2)
    out = compared(tmp_path / "out", one, other, "--pairs", write_pairs(tmp_path, 16))
    printed = capsys.readouterr().out
    assert "not known to be of one base: other shapes" in printed
    assert "Between bases rankings are not tried" in printed
    assert (out / "matches.csv").exists() and not (out / "node_differences.csv").exists()


def test_other_tokens_take_pairs_as_text(tmp_path: Path, capsys: Printed) -> None:
    theirs, pairs = save_checkpoints(tmp_path / "theirs", (100,)), write_pairs(tmp_path)
    words = [theirs, "--pairs", pairs, "--output_dir", tmp_path / "run", *QUICK]
    track.main([str(word) for word in words])
    other = save_model(tmp_path / "other", seed=1)
    reworded(other)
    with pytest.raises(BadInput, match=r"other has other tokens than run.*--pairs FILE.jsonl"):
        compared(tmp_path / "out", tmp_path / "run", other)
    out = compared(tmp_path / "out", tmp_path / "run", other, "--pairs", pairs)
    assert set(read(out, "behaviour")["model"]) == {"run", "other"}


def reworded(folder: Path) -> None:
    """Let two letters of a model's tokenizer change places."""
    path = folder / "tokenizer.json"
    facts = json.loads(path.read_text())
    words = facts["model"]["vocab"]
    words["a"], words["b"] = words["b"], words["a"]
    path.write_text(json.dumps(facts))


def test_groups_of_runs_are_compared_by_their_records(tmp_path: Path, capsys: Printed) -> None:
    for group in "ab":
        for seed in range(2):
            run = write_run(tmp_path / f"{group}{seed}", (0, 10 + seed))
            (run / "config.yaml").write_text(
                f"# sparks sft\nmodel_name_or_path: m{seed}\nseed: 0\n"
            )
    words = ["--group", f"a={tmp_path}/a*", "--group", f"b={tmp_path / 'b0'},{tmp_path / 'b1'}"]
    compare.main([*words, "--output_dir", str(tmp_path / "out")])
    assert (
        "b (2 runs) and a (2) are paired by base and seed: 2 pairs of 2 bases"
        in capsys.readouterr().out
    )
    assert len(read(tmp_path / "out", "runs")["run"].unique()) == 4
    for wrong, why in (
        (["--group", f"a=nowhere,{tmp_path / 'a0'}"], "nowhere: no such run"),
        (["--group", f"a={tmp_path}/z*"], "no folder fits"),
        (["--group", "a"], "it must be like"),
        (words[:2], "two groups are compared at least"),
        ([*words[:2], *words[:2]], "is there twice"),
        ([*words[:2], "--group", f"b={tmp_path / 'a0'}"], "is named twice"),
        ([*words[:2], "--group", f"b={tmp_path / 'b0'}"], "b has one run"),
        ([*words[:2], "--group", f"b={tmp_path / 'b0'},"], "it must be like"),
        ([*words, "--pairs", "x"], "takes --output_dir alone"),
        ([*words, "--thinking"], "takes --output_dir alone"),
    ):
        with pytest.raises(BadInput, match=why):
            compare.main(wrong)
