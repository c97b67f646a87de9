"""The tracker in someone's own script: a plain `Trainer`, with an evaluation in between."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import (
    Qwen2Config,
    Qwen2ForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from tracking import BadInput, HeadTracker, Ledger, PromptPairs, Settings, TrackingConfig

QUICK = Settings(ig_steps=2, max_ig_steps=2, resamples=10)


def decoder() -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, attention_dropout=0.1,
    )  # fmt: skip
    torch.manual_seed(0)
    return Qwen2ForCausalLM(config)


def pairs(count: int = 6) -> PromptPairs:
    generator = torch.Generator().manual_seed(1)
    clean, corrupted = torch.randint(32, (2, count, 7), generator=generator)
    return PromptPairs(clean, corrupted, labels=torch.randint(32, (count, 2), generator=generator))


def train(
    folder: Path,
    *callbacks: TrainerCallback,
    resume_from_checkpoint: str | None = None,
    **keys: object,
) -> Trainer:
    tokens = torch.randint(32, (16, 8), generator=torch.Generator().manual_seed(2)).tolist()
    data = Dataset.from_dict({"input_ids": tokens, "labels": tokens})
    settings = {
        "output_dir": str(folder), "max_steps": 4, "save_steps": 2, "eval_strategy": "steps",
        "eval_steps": 2, "logging_steps": 1, "use_cpu": True, "report_to": "none",
        "disable_tqdm": True, "per_device_train_batch_size": 4, "learning_rate": 0.01,
        "gradient_checkpointing": True,
    }  # fmt: skip
    trainer = Trainer(
        model=decoder(),
        args=TrainingArguments(**{**settings, **keys}),  # type: ignore[arg-type]
        train_dataset=data,
        eval_dataset=data,
        callbacks=list(callbacks),
    )
    trainer.train(resume_from_checkpoint=resume_from_checkpoint)
    return trainer


class Watch(TrainerCallback):
    """Keeps what an analysis must not change, as it is when the step after it begins."""

    def __init__(self) -> None:
        self.seen: list[tuple] = []

    def on_step_begin(self, args, state, control, model: nn.Module, **kwargs) -> None:
        modes = [module.training for module in model.modules()]
        flags = [parameter.requires_grad for parameter in model.parameters()]
        gradients = [parameter.grad is None for parameter in model.parameters()]
        self.seen.append((torch.get_rng_state().tolist(), modes, flags, gradients))


def test_a_plain_trainer_is_tracked_and_ends_the_same(tmp_path: Path) -> None:
    with_tracker, without = Watch(), Watch()
    tracked = train(tmp_path / "a", HeadTracker(TrackingConfig(pairs(), QUICK)), with_tracker)
    plain = train(tmp_path / "b", without)
    records = Ledger(tmp_path / "a" / "heads").records()
    assert [record.step for record in records] == [0, 2, 4]
    assert [record.reward_name for record in records[1:]] == ["loss", "loss"]
    assert with_tracker.seen == without.seen
    for ours, theirs in zip(tracked.model.parameters(), plain.model.parameters(), strict=True):  # type: ignore[union-attr]
        assert torch.equal(ours, theirs)


def test_several_kinds_are_kept_apart(tmp_path: Path) -> None:
    sets = {"one": pairs(4), "two": pairs(6)}
    train(tmp_path, HeadTracker(TrackingConfig(sets, QUICK)))
    analyses = Ledger(tmp_path / "heads").read(4).analyses
    assert {contrast: len(analysis.nodes.corrupt) for contrast, analysis in analyses.items()} == {
        "one": 4,
        "two": 6,
    }


def failing_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the weights NaN for the analysis of one step: a real failure inside it."""
    original: Callable = HeadTracker._record

    def record(self: HeadTracker, args, state, now, model) -> None:
        if now == step:
            weight: Tensor = model.model.norm.weight
            kept = weight.data.clone()
            weight.data.fill_(float("nan"))
            try:
                original(self, args, state, now, model)
            finally:
                weight.data.copy_(kept)
        else:
            original(self, args, state, now, model)

    monkeypatch.setattr(HeadTracker, "_record", record)


def test_a_failed_analysis_is_marked_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failing_at(2, monkeypatch)
    with caplog.at_level(logging.ERROR):
        trainer = train(tmp_path, HeadTracker(TrackingConfig(pairs(), QUICK)))
    assert trainer.state.global_step == 4
    assert "tracking failed at step 2" in caplog.text
    assert Ledger(tmp_path / "heads").steps() == [0, 4]
    assert "not finite" in Ledger(tmp_path / "heads").marks()[2].message


def test_on_error_raise_stops_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_at(2, monkeypatch)
    strict = Settings(ig_steps=2, max_ig_steps=2, resamples=10, on_error="raise")
    with pytest.raises(BadInput, match="not finite"):
        train(tmp_path, HeadTracker(TrackingConfig(pairs(), strict)))


def test_a_resumed_run_keeps_its_pairs(tmp_path: Path) -> None:
    train(tmp_path, HeadTracker(TrackingConfig(pairs(), QUICK)))
    with pytest.raises(BadInput, match="this run's pairs are"):
        train(tmp_path, HeadTracker(TrackingConfig(pairs(5), QUICK)))


def test_an_unsupported_model_is_refused_before_the_first_step(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
            raise AssertionError("training has begun")

    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    data = Dataset.from_dict({"input_ids": [[1]], "labels": [[1]]})
    tracker = HeadTracker(TrackingConfig(pairs(), QUICK))
    trainer = Trainer(model=Odd(), args=arguments, train_dataset=data, callbacks=[tracker])
    with pytest.raises(BadInput, match="cannot track a 'Odd' model; supported: gemma"):
        trainer.train()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "no prompt pairs"),
        ({"bare": PromptPairs(pairs().clean, pairs().corrupted)}, "'bare' pairs have no labels"),
        ({"far": PromptPairs(*torch.full((2, 4, 5), 99), labels=torch.ones(4, 2).long())}, "99"),
    ],
)
def test_pairs_that_cannot_be_analysed_are_refused_before_the_first_step(
    tmp_path: Path, wrong: dict[str, PromptPairs], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        train(tmp_path, HeadTracker(TrackingConfig(wrong, QUICK)))


def test_a_disk_with_no_room_for_records_stops_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("tracking.ledger.ledger.write_whole", full)
    trainer = train(tmp_path, HeadTracker(TrackingConfig(pairs(), QUICK)))
    assert trainer.state.global_step == 4
    assert Ledger(tmp_path / "heads").steps() == []


def test_a_base_that_is_gone_leaves_the_weights_change_open(tmp_path: Path) -> None:
    def gone() -> nn.Module:
        raise OSError("no such model")

    tracker = HeadTracker(TrackingConfig(pairs(), QUICK, models={0: gone}))
    assert tracker._base(2, decoder()) is None
    assert tracker._base(0, decoder()) is not None


def test_past_its_budget_tracking_leaves_checkpoints_out_and_says_so(tmp_path: Path) -> None:
    frugal = Settings(ig_steps=2, max_ig_steps=2, resamples=10, budget=1e-6)
    train(tmp_path, HeadTracker(TrackingConfig(pairs(), frugal)))
    ledger = Ledger(tmp_path / "heads")
    assert ledger.steps() == [0]
    assert {step: mark.why for step, mark in ledger.marks().items()} == {2: "budget", 4: "budget"}
    assert (tmp_path / "checkpoint-4").is_dir()


def test_a_resumed_run_makes_records_that_are_damaged_or_missing(tmp_path: Path) -> None:
    train(tmp_path, HeadTracker(TrackingConfig(pairs(), QUICK)))
    ledger = Ledger(tmp_path / "heads")
    whole = {step: ledger.path(step).read_bytes() for step in ledger.steps()}
    changed = bytearray(whole[2])
    changed[-1] ^= 1
    ledger.path(2).write_bytes(changed)
    ledger.path(0).unlink()
    models = {0: decoder, 2: lambda: Qwen2ForCausalLM.from_pretrained(tmp_path / "checkpoint-2")}
    tracker = HeadTracker(TrackingConfig(pairs(), QUICK, models=models))
    train(tmp_path, tracker, resume_from_checkpoint=str(tmp_path / "checkpoint-4"), max_steps=6)
    assert ledger.steps() == [0, 2, 4, 6]
    for step in (0, 2, 4):
        now = ledger.read(step)
        ledger.path(step).write_bytes(whole[step])
        before = ledger.read(step)
        assert torch.equal(
            now.analyses["pairs"].scores.edge_scores, before.analyses["pairs"].scores.edge_scores
        )
        assert now.reward == before.reward
    (aside,) = (ledger.folder / "superseded").iterdir()
    assert aside.name == "step-00000002.safetensors"


def test_what_was_left_out_and_whose_checkpoint_is_gone_is_marked_so(tmp_path: Path) -> None:
    frugal = Settings(ig_steps=2, max_ig_steps=2, resamples=10, budget=1e-6)
    train(tmp_path, HeadTracker(TrackingConfig(pairs(), frugal)))
    tracker = HeadTracker(TrackingConfig(pairs(), QUICK, models={0: decoder}))
    train(tmp_path, tracker, resume_from_checkpoint=str(tmp_path / "checkpoint-4"), max_steps=6)
    ledger = Ledger(tmp_path / "heads")
    assert ledger.steps() == [0, 6]
    assert {step: mark.why for step, mark in ledger.marks().items()} == {2: "deleted", 4: "budget"}


def test_a_postponed_analysis_ends_at_once_and_is_left_to_the_next_job(tmp_path: Path) -> None:
    tracker = HeadTracker(TrackingConfig(pairs(), QUICK))

    class Asked(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs) -> None:
            if state.global_step == 3:
                tracker.postpone()

    trainer = train(tmp_path, tracker, Asked())
    ledger = Ledger(tmp_path / "heads")
    assert trainer.state.global_step == 4
    assert ledger.steps() == [0, 2]
    assert ledger.marks()[4].why == "preempted"


def test_a_clock_that_jumps_changes_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "plain", HeadTracker(TrackingConfig(pairs(), QUICK)))
    hours = iter(range(10**6))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600 * (-1) ** next(hours) * 50)
    train(tmp_path / "jumps", HeadTracker(TrackingConfig(pairs(), QUICK)))
    tables = [
        (tmp_path / name / "heads" / "timeline.parquet").read_bytes() for name in ("plain", "jumps")
    ]
    assert tables[0] == tables[1]
    assert all(0 <= record.seconds < 60 for record in Ledger(tmp_path / "jumps/heads").records())
