"""Checkpoints of any trainer, and models in a row, become a folder like a run's."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.builders.checkpoints import (
    QUICK,
    save_adapter,
    save_checkpoints,
    save_model,
    write_log,
    write_pairs,
)
from tracking import BadInput, Ledger, Record, Timeline
from train.commands import report, show, track

Printed = pytest.CaptureFixture[str]


def tracked(tmp_path: Path, *words: object, pairs: Path | None = None) -> Ledger:
    """The ledger of `sparks track` with these words."""
    run, file = tmp_path / "run", pairs or write_pairs(tmp_path)
    command = [*words, "--pairs", file, "--output_dir", run, *QUICK]
    track.main([str(word) for word in command])
    return Ledger(run / "heads")


def scores(records: Sequence[Record]) -> list[torch.Tensor]:
    return [record.analyses["letters"].scores.edge_scores for record in records]


def test_a_folder_of_checkpoints_is_shown_and_reported_like_a_run(
    tmp_path: Path, capsys: Printed
) -> None:
    folder = save_checkpoints(tmp_path / "theirs", (200, 100, 1000))
    write_log(folder / "checkpoint-1000", {100: 0.1, 150: 0.2, 200: 0.4, 900: 0.7, 1000: 0.9})
    ledger = tracked(tmp_path, folder)
    assert ledger.steps() == [100, 200, 1000]
    rewards = [record.reward for record in ledger.records()]
    assert rewards == pytest.approx([0.1, 0.3, 0.8])
    change = [record.analyses["letters"].heads.weight_change for record in ledger.records()]
    assert float(change[0].abs().max()) == 0 and all(bool((one > 0).all()) for one in change[1:])
    heads = pd.read_parquet(ledger.timeline_path)
    assert sorted(set(heads["step"])) == [100, 200, 1000]
    run = tmp_path / "run"
    assert not re.search(r"^ +checkpoints ", capsys.readouterr().out, re.MULTILINE)  # none there
    show.main([str(run), "--follow"])
    assert "wiring: what step 100's still carries" in capsys.readouterr().out
    report.main([str(run)])
    assert "letters" in (run / "report.html").read_text()
    assert yaml.safe_load((run / "config.yaml").read_text())["models"] == [str(folder)]


def test_a_device_map_changes_no_record(tmp_path: Path) -> None:
    folder = save_checkpoints(tmp_path / "theirs")
    plain, spread = tmp_path / "plain", tmp_path / "spread"
    plain.mkdir()
    spread.mkdir()
    one = scores(tracked(plain, folder).records())
    other = scores(tracked(spread, folder, "--device_map", "auto").records())
    assert all(map(torch.equal, one, other))


def test_it_goes_on_with_what_has_come_since(tmp_path: Path, capsys: Printed) -> None:
    folder = save_checkpoints(tmp_path / "theirs")
    ledger = tracked(tmp_path, folder)
    before = [ledger.path(step).read_bytes() for step in (100, 200)]
    capsys.readouterr()
    tracked(tmp_path, folder)
    assert "every checkpoint has its record" in capsys.readouterr().out
    save_model(folder / "checkpoint-300", seed=3)
    track.main([str(tmp_path / "run")])
    assert ledger.steps() == [100, 200, 300]
    assert [ledger.path(step).read_bytes() for step in (100, 200)] == before
    assert ledger.read(300).settings["select"] == "edges=9"
    shutil.rmtree(folder / "checkpoint-100")
    save_model(folder / "checkpoint-400", seed=4)
    track.main([str(tmp_path / "run")])
    assert ledger.steps() == [100, 200, 300, 400]
    assert "step 100 is gone" in capsys.readouterr().out
    assert bool(ledger.read(400).analyses["letters"].heads.weight_change.isnan().all())


def test_other_settings_make_every_record_again(tmp_path: Path) -> None:
    folder = save_checkpoints(tmp_path / "theirs")
    ledger = tracked(tmp_path, folder)
    track.main([str(tmp_path / "run"), "--track_select", "edges=7"])
    assert [record.settings["select"] for record in ledger.records()] == ["edges=7"] * 2
    assert len(list((ledger.folder / "superseded").iterdir())) == 2
    table = ledger.timeline_path.read_bytes()
    ledger.timeline_path.unlink()
    track.main([str(tmp_path / "run"), "--rebuild"])
    assert ledger.timeline_path.read_bytes() == table


def test_a_base_is_step_0(tmp_path: Path) -> None:
    folder, base = save_checkpoints(tmp_path / "theirs"), save_model(tmp_path / "base", seed=7)
    ledger = tracked(tmp_path, folder, "--base", base)
    assert ledger.steps() == [0, 100, 200]
    assert all(bool((one.analyses["letters"].heads.weight_change > 0).all())
               for one in ledger.records()[1:])  # fmt: skip
    with pytest.raises(BadInput, match=r"step 0 was .*base, is .*other"):
        other = save_model(tmp_path / "other", seed=8)
        tracked(tmp_path, folder, "--base", other)


def test_models_in_a_row_are_counted_from_0(tmp_path: Path) -> None:
    folders = [save_model(tmp_path / name, seed) for seed, name in enumerate("abc")]
    assert tracked(tmp_path, *folders[:2]).steps() == [0, 1]
    ledger = tracked(tmp_path, *folders)
    assert ledger.steps() == [0, 1, 2]
    assert [record.reward for record in ledger.records()] == [None] * 3
    with pytest.raises(BadInput, match=r"step 1 was .*b, is .*c; choose another --output_dir"):
        tracked(tmp_path, folders[0], folders[2])


def test_the_way_a_model_was_saved_changes_nothing(tmp_path: Path) -> None:
    for name, folder in {
        "checkpoint-5": "plain/checkpoint-5",
        "global_step_5": "verl/global_step_5/actor/huggingface",
        "iter": "megatron/iter_0000005",
        "step_5": "under/step_5",
        "step-5": "dash/step-5/hf",
    }.items():
        save_model(tmp_path / folder, 5, shard="2KB" if name != "checkpoint-5" else "5GB")
    kinds = ["plain", "verl", "megatron", "under", "dash"]
    assert len(list((tmp_path / "verl/global_step_5/actor/huggingface").glob("model-*"))) > 3
    ledgers = []
    for kind in kinds:
        file = write_pairs(tmp_path)
        command = [tmp_path / kind, "--pairs", file, "--output_dir", tmp_path / f"run-{kind}"]
        track.main([*map(str, command), *QUICK])
        ledgers.append(Ledger(tmp_path / f"run-{kind}" / "heads"))
    assert all(ledger.steps() == [5] for ledger in ledgers)
    wanted = scores(ledgers[0].records())[0]
    for ledger in ledgers[1:]:
        assert torch.equal(scores(ledger.records())[0], wanted)


@pytest.mark.parametrize("named", ["", "/scratch/of/another/machine/base"])
def test_adapters_are_analysed_on_their_base_as_if_merged(tmp_path: Path, named: str) -> None:
    base = save_model(tmp_path / "base", seed=1)
    for step in (10, 20):
        save_adapter(tmp_path / "theirs" / f"checkpoint-{step}", base, step, named)
        merged = merge(base, tmp_path / "theirs" / f"checkpoint-{step}")
        merged.save_pretrained(tmp_path / "merged" / f"checkpoint-{step}")
    live = scores(tracked(tmp_path, tmp_path / "theirs").records())
    shutil.rmtree(tmp_path / "run")
    merged_ones = tracked(tmp_path, tmp_path / "merged", "--base", base)
    for one, other in zip(live, scores(merged_ones.records())[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def merge(base: Path, adapter: Path) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    return PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()


def test_a_checkpoint_that_is_not_whole_is_skipped_with_a_line(
    tmp_path: Path, capsys: Printed
) -> None:
    folder = save_checkpoints(tmp_path / "theirs", (100, 200, 300), shard="2KB")
    sorted((folder / "checkpoint-200").glob("model-*"))[0].unlink()
    cut = sorted((folder / "checkpoint-300").glob("model-*"))[1]
    cut.write_bytes(cut.read_bytes()[:-10])
    (folder / "checkpoint-400").mkdir()
    assert tracked(tmp_path, folder).steps() == [100]
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("skipped")]
    assert len(lines) == 3
    assert "which is not there" in lines[0] and "cut short" in lines[1] and "no model" in lines[2]


def test_a_checkpoint_that_fails_is_told_and_the_others_are_done(
    tmp_path: Path, capsys: Printed
) -> None:
    folder = save_checkpoints(tmp_path / "theirs", (100, 200, 300))
    from safetensors.torch import save_file

    path = folder / "checkpoint-200" / "model.safetensors"
    tensors = {name: tensor * torch.nan for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    path = folder / "checkpoint-300" / "model.safetensors"
    tensors = load_file(path)
    tensors.pop("model.norm.weight")
    save_file(tensors, path, metadata={"format": "pt"})
    assert tracked(tmp_path, folder).steps() == [100]
    marks = Ledger(tmp_path / "run" / "heads").marks()
    assert "not finite" in marks[200].message and "lacks weights" in marks[300].message


def test_a_reward_file_takes_the_place_of_the_log(tmp_path: Path) -> None:
    folder = save_checkpoints(tmp_path / "theirs")
    write_log(folder / "checkpoint-200", {100: 0.1})
    (tmp_path / "reward.csv").write_text("step, reward,loss\n50,1,3\n100,2,3\n150,,3\n200,5,3\n")
    ledger = tracked(tmp_path, folder, "--reward", tmp_path / "reward.csv")
    assert [record.reward for record in ledger.records()] == [1.5, 5.0]


def test_the_timeline_can_be_read_from_python(tmp_path: Path) -> None:
    tracked(tmp_path, save_checkpoints(tmp_path / "theirs"))
    assert Timeline.read(tmp_path / "run").contrasts == ["letters"]


def broken(tmp_path: Path, what: str) -> list[object]:
    """The words after `sparks track` of a command with this mistake."""
    folder, run = save_checkpoints(tmp_path / "theirs"), tmp_path / "run"
    pairs: list[object] = ["--pairs", write_pairs(tmp_path)]
    out: list[object] = ["--output_dir", run]
    if what == "no checkpoints":
        (tmp_path / "empty").mkdir()
        return [tmp_path / "empty", *pairs, *out]
    if what == "no pairs":
        return [folder, *out]
    if what == "no pairs of two models":
        return [folder / "checkpoint-100", folder / "checkpoint-200", *out]
    if what == "no such pairs":
        return [folder, *out, "--pairs", tmp_path / "none.jsonl"]
    if what == "one pair":
        return [folder, *out, "--pairs", write_pairs(tmp_path, 1)]
    if what == "no folder":
        return [folder, *pairs]
    if what == "a training run":
        return [folder, *pairs, "--output_dir", folder]
    if what == "shapes":
        save_model(folder / "checkpoint-300", 3, heads=2)
    if what == "CSV":
        (tmp_path / "r.csv").write_text("step,reward\n1,0.5\n2,much\n")
        return [folder, *pairs, *out, "--reward", tmp_path / "r.csv"]
    if what == "columns":
        (tmp_path / "r.csv").write_text("step,loss\n1,0.5\n")
        return [folder, *pairs, *out, "--reward", tmp_path / "r.csv"]
    if what == "log":
        (folder / "checkpoint-200" / "trainer_state.json").write_text("{")
    if what == "twice":
        save_model(folder / "global_step_100", 3)
    if what == "zero twice":
        save_model(folder / "checkpoint-0", 3)
        return [folder, *pairs, *out, "--base", folder / "checkpoint-100"]
    if what == "architecture":
        path = folder / "checkpoint-200" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "olmo2"}))
    if what == "adapter":
        save_adapter(folder / "checkpoint-300", folder / "checkpoint-100", 0, use_dora=True)
    if what == "no base":
        save_adapter(folder / "checkpoint-300", folder / "checkpoint-100", 0, "/no/where")
    if what == "tokenizer":
        folder = save_checkpoints(tmp_path / "mute", tokenizer=False)
    if what == "flag":
        return [folder, *pairs, *out, "--track_selct", "share=0.9"]
    if what == "setting":
        return [folder, *pairs, *out, "--track_select", "share=9"]
    if what == "no model":
        return [folder / "checkpoint-100", tmp_path / "nothing", *pairs, *out]
    return [folder, *pairs, *out]


@pytest.mark.parametrize(
    ("what", "complaint"),
    [
        ("no checkpoints", r"no whole checkpoint; they are folders called checkpoint-100, global_"),
        ("no pairs", "--pairs is missing"),
        ("no pairs of two models", "--pairs is missing"),
        ("no such pairs", r"none\.jsonl: no such file"),
        ("one pair", "'letters' has 1 pair"),
        ("no folder", "--output_dir is missing"),
        ("a training run", "theirs is a training run; choose another folder with --output_dir"),
        ("shapes", r"checkpoint-300 has heads 2, .*checkpoint-100 has 4"),
        ("CSV", r"r\.csv, line 3: step '2', reward 'much'"),
        ("columns", r"r\.csv has no column 'reward' \(it has step, loss\)"),
        ("log", r"trainer_state\.json cannot be read; give the reward: --reward"),
        ("twice", "checkpoint-100 and global_step_100 are both step 100"),
        ("zero twice", "is step 0, and so is --base"),
        ("architecture", r"cannot track a 'olmo2' model \(.*checkpoint-200\): one norm runs"),
        ("adapter", r"checkpoint-300: cannot track a DoRA adapter"),
        ("no base", r"checkpoint-300: its base '/no/where' is not here; put it beside it, or"),
        ("tokenizer", r"no tokenizer in .*checkpoint-100, nor in the others"),
        ("flag", "--track_selct"),
        ("setting", "select is"),
        ("no model", "nothing': no such folder"),
    ],
)
def test_a_mistake_is_one_line_before_weights_are_loaded(
    tmp_path: Path, what: str, complaint: str
) -> None:
    words = broken(tmp_path, what)
    with pytest.raises(BadInput, match=complaint) as refusal:
        track.main([str(word) for word in words])
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run").exists()


def test_other_pairs_are_refused_for_records_that_are_there(tmp_path: Path) -> None:
    folder = save_checkpoints(tmp_path / "theirs")
    ledger = tracked(tmp_path, folder)
    (tmp_path / "more").mkdir()
    with pytest.raises(BadInput, match=r"this run's pairs are .* keep to them"):
        tracked(
            tmp_path, folder, "--track_select", "edges=3", pairs=write_pairs(tmp_path / "more", 7)
        )
    assert ledger.steps() == [100, 200]


def test_an_earlier_checkpoint_cannot_become_the_base_later(tmp_path: Path) -> None:
    folder = save_checkpoints(tmp_path / "theirs")
    tracked(tmp_path, folder)
    save_model(folder / "checkpoint-50", 5)
    with pytest.raises(BadInput, match="step 50 comes before step 100"):
        tracked(tmp_path, folder)
