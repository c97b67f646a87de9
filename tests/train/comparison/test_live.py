"""What training changed is looked for while it trains, and training is as without it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM

from tests.builders.recipes import words
from tracking.comparison.shift.shift import Shift
from tracking.comparison.shift.texts import Texts
from tracking.errors import BadInput
from tracking.model.decoder import Decoder
from tracking.run_folder import RunFolder
from train import config, model
from train.comparison import live
from train.comparison.live import ShiftCallback, shift_plan
from train.comparison.shift import BATCH, judged_by
from train.comparison.texts import drawn_texts
from train.tasks.registry import rows_of

Run = Callable[..., Path]
LORA = {"use_peft": "true", "lora_r": 4, "lora_target_modules": "all-linear"}
MOVED: dict[str, Any] = {"track_shift": 6, "learning_rate": 0.02}  # so far that tokens differ


def weights(run: Path) -> bytes:
    (path,) = run.glob("*.safetensors")
    return path.read_bytes()


def rows(run: Path) -> pd.DataFrame:
    folders = RunFolder(run).shifts().values()
    return pd.DataFrame([json.loads((one / "figures.json").read_text()) for one in folders])


def looked_at_afterwards(small_model: Path, run: Path, step: int, **keys: Any) -> Shift:
    """The shift between the base and a checkpoint, both loaded from their files."""
    job = config.load("grpo", words(small_model, "grpo", run, **keys))
    start = model.start(job)
    plan = shift_plan(job, start, rows_of(job, "train"))
    assert plan is not None
    base = AutoModelForCausalLM.from_pretrained(small_model, dtype=torch.float32)
    checkpoint = run / f"checkpoint-{step}"
    if (checkpoint / "adapter_config.json").exists():
        loaded = AutoModelForCausalLM.from_pretrained(small_model, dtype=torch.float32)
        trained = PeftModel.from_pretrained(loaded, checkpoint)
    else:
        trained = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    texts = drawn_texts(
        {"base": base, "trained": trained}, start.tokenizer, plan.asked.problems, plan.sampling
    )
    judged = judged_by(job.thresholds, Decoder.of(base).graph)
    return Shift.of(base, trained, Texts.of(texts), judged, BATCH)


@pytest.mark.parametrize("more", [{}, LORA], ids=["whole", "LoRA"])
def test_what_is_seen_live_is_what_the_saved_models_show_and_training_is_as_before(
    more: dict, small_model: Path, run_job: Run, tmp_path: Path
) -> None:
    keys = {**MOVED, **more}
    run = run_job("grpo", tmp_path / "looked", **keys)
    assert weights(run) == weights(
        run_job("grpo", tmp_path / "plain", **{**keys, "track_shift": 0})
    )
    table = rows(run)
    assert list(table["step"]) == [2, 4]
    wanted = looked_at_afterwards(small_model, run, 4, **keys)
    for figure, value in wanted.figures.items():
        assert table[figure].iloc[-1] == pytest.approx(value, rel=1e-4, nan_ok=True), figure
    assert wanted.carried is not None and wanted.divergence.mean > 0
    assert table["nodes"].iloc[-1] == wanted.carried.carriers
    folder = run / "shift" / "step-00000004"
    assert "nats" in (folder / "findings.txt").read_text()
    assert "<html" in (folder / "texts.html").read_text()
    assert len(pd.read_csv(folder / "shift_positions_step-4.csv")) == table["tokens"].iloc[-1]


def test_where_nothing_is_learned_nothing_shifts(
    run_job: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_job("grpo", tmp_path / "run", track_shift=6, learning_rate=0.0)
    table = rows(run)
    assert list(table["nats"]) == [0, 0] and list(table["nodes"]) == [[], []]
    assert table["behaviour"].isna().all()
    assert "step 4 shifts 0 nats a token from its base; nobody" in capsys.readouterr().out


def test_a_resumed_run_has_every_checkpoint_once(run_job: Run, tmp_path: Path) -> None:
    run = run_job("grpo", tmp_path / "run", **MOVED)
    first, later = (RunFolder(run).shift(step) / "texts.html" for step in (2, 4))
    before = [path.stat().st_mtime_ns for path in (first, later)]
    again = {**MOVED, "max_steps": 6, "accept_changes": [], "report_to": "tensorboard"}
    run_job("grpo", run, **again, resume_from_checkpoint=run / "checkpoint-2")
    assert list(rows(run)["step"]) == [2, 4, 6]
    assert first.stat().st_mtime_ns == before[0] and later.stat().st_mtime_ns > before[1]
    assert (run / "superseded" / "shift" / "step-00000004" / "texts.html").exists()
    shown = EventAccumulator(str(run / "runs" / "shift"))
    shown.Reload()
    nats = {event.step: event.value for event in shown.Scalars("shift/nats")}
    assert nats == pytest.approx(dict(zip((4, 6), rows(run)["nats"][1:], strict=True)), rel=1e-5)


def test_rows_of_sft_are_asked_up_to_the_models_turn(small_model: Path, tmp_path: Path) -> None:
    job = config.load("sft", words(small_model, "sft", tmp_path / "run", track_shift=6))
    data = rows_of(job, "train")
    plan = shift_plan(job, model.start(job), data)
    assert plan is not None
    asked = {messages[0]["content"] for messages in data["messages"]}
    assert len(plan.asked.problems) == 6
    assert {problem.question for problem in plan.asked.problems} <= asked
    bare = Dataset.from_dict({"text": ["1 + 1 = 2"]})
    with pytest.raises(BadInput, match="these rows have only text"):
        shift_plan(job, model.start(job), bare)
    with pytest.raises(BadInput, match="3 different questions in the data; at least 4"):
        shift_plan(job, model.start(job), data.select([0, 0, 1, 2]))


def test_a_job_that_is_to_end_leaves_it_to_the_next(
    run_job: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    begin = ShiftCallback.__init__

    def asked(self: Any, plan: Any, tokenizer: Any, load: Any, ending: Any) -> None:
        begin(self, plan, tokenizer, load, lambda: True)

    monkeypatch.setattr(ShiftCallback, "__init__", asked)
    run = run_job("grpo", tmp_path / "run", **MOVED)
    assert "step 4: its shift is left to the job that goes on" in capsys.readouterr().out
    assert RunFolder(run).shifts() == {}


def test_a_failure_is_said_and_training_goes_on(
    run_job: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no texts today")

    monkeypatch.setattr(live, "drawn_texts", fail)
    run = run_job("grpo", tmp_path / "run", **MOVED)
    assert (run / "model.safetensors").exists() and not (run / "shift").exists()
    assert "step 2: its shift failed: no texts today" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"track_shift": 3}, "track_shift is 3; it must be 0 or at least 4"),
        ({"track_shift": 8, "no_track": []}, "track_shift needs track, and track_mode inline"),
        (
            {"track_shift": 8, "track_mode": "watch"},
            "track_shift needs track, and track_mode inline",
        ),
        ({"track_shift": 8, "max_completion_length": 120}, "max_new_tokens is 120, but"),
    ],
)
def test_what_cannot_be_looked_at_is_refused_before_training(
    keys: dict, message: str, run_job: Run, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=message):
        run_job("grpo", tmp_path / "run", **keys)
    assert not any((tmp_path / "run").glob("checkpoint-*"))
