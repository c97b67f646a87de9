"""The tracker in someone's own script: a plain `Trainer`, with an evaluation in between."""

import json
import logging
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

from tracking import BadInput, HeadTracker, Ledger, ProbeSet, Settings, TrackingConfig

QUICK = Settings(steps=2, max_steps=2, resamples=10)


def decoder() -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, attention_dropout=0.1,
    )  # fmt: skip
    torch.manual_seed(0)
    return Qwen2ForCausalLM(config)


def probes(count: int = 6) -> ProbeSet:
    generator = torch.Generator().manual_seed(1)
    clean, corrupted = torch.randint(32, (2, count, 7), generator=generator)
    return ProbeSet(clean, corrupted, labels=torch.randint(32, (count, 2), generator=generator))


def train(folder: Path, *callbacks: TrainerCallback, **keys: object) -> Trainer:
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
    trainer.train()
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
    tracked = train(tmp_path / "a", HeadTracker(TrackingConfig(probes(), QUICK)), with_tracker)
    plain = train(tmp_path / "b", without)
    records = Ledger(tmp_path / "a" / "heads").records()
    assert [record.step for record in records] == [0, 2, 4]
    assert [record.reward_name for record in records[1:]] == ["loss", "loss"]
    assert with_tracker.seen == without.seen
    for ours, theirs in zip(tracked.model.parameters(), plain.model.parameters(), strict=True):  # type: ignore[union-attr]
        assert torch.equal(ours, theirs)


def test_several_kinds_are_kept_apart(tmp_path: Path) -> None:
    sets = {"one": probes(4), "two": probes(6)}
    train(tmp_path, HeadTracker(TrackingConfig(sets, QUICK)))
    analyses = Ledger(tmp_path / "heads").read(4).analyses
    assert {kind: len(analysis.effect) for kind, analysis in analyses.items()} == {
        "one": 4,
        "two": 6,
    }


def failing_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the weights NaN for the analysis of one step: a real failure inside it."""
    original: Callable = HeadTracker._record

    def record(self: HeadTracker, args, state, model) -> None:
        if state.global_step == step:
            weight: Tensor = model.model.norm.weight
            kept = weight.data.clone()
            weight.data.fill_(float("nan"))
            try:
                original(self, args, state, model)
            finally:
                weight.data.copy_(kept)
        else:
            original(self, args, state, model)

    monkeypatch.setattr(HeadTracker, "_record", record)


def test_a_failed_analysis_is_marked_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failing_at(2, monkeypatch)
    with caplog.at_level(logging.ERROR):
        trainer = train(tmp_path, HeadTracker(TrackingConfig(probes(), QUICK)))
    assert trainer.state.global_step == 4
    assert "tracking failed at step 2" in caplog.text
    assert Ledger(tmp_path / "heads").steps() == [0, 4]
    told = json.loads((tmp_path / "heads" / "failed-00000002.json").read_text())
    assert told["step"] == 2 and "not finite" in told["message"]


def test_on_error_raise_stops_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_at(2, monkeypatch)
    strict = Settings(steps=2, max_steps=2, resamples=10, on_error="raise")
    with pytest.raises(BadInput, match="not finite"):
        train(tmp_path, HeadTracker(TrackingConfig(probes(), strict)))


def test_a_resumed_run_keeps_its_probes(tmp_path: Path) -> None:
    train(tmp_path, HeadTracker(TrackingConfig(probes(), QUICK)))
    with pytest.raises(BadInput, match="this run's probes are"):
        train(tmp_path, HeadTracker(TrackingConfig(probes(5), QUICK)))


def test_an_unsupported_model_is_refused_before_the_first_step(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
            raise AssertionError("training has begun")

    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    data = Dataset.from_dict({"input_ids": [[1]], "labels": [[1]]})
    tracker = HeadTracker(TrackingConfig(probes(), QUICK))
    trainer = Trainer(model=Odd(), args=arguments, train_dataset=data, callbacks=[tracker])
    with pytest.raises(BadInput, match="cannot track a 'Odd' model; supported: llama"):
        trainer.train()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({}, "no probes"),
        ({"bare": ProbeSet(probes().clean, probes().corrupted)}, "'bare' probes have no labels"),
        ({"far": ProbeSet(*torch.full((2, 4, 5), 99), labels=torch.ones(4, 2).long())}, "99"),
    ],
)
def test_probes_that_cannot_be_analysed_are_refused_before_the_first_step(
    tmp_path: Path, wrong: dict[str, ProbeSet], told: str
) -> None:
    with pytest.raises(BadInput, match=told):
        train(tmp_path, HeadTracker(TrackingConfig(wrong, QUICK)))


def test_a_disk_with_no_room_for_records_stops_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("tracking.ledger.write_whole", full)
    trainer = train(tmp_path, HeadTracker(TrackingConfig(probes(), QUICK)))
    assert trainer.state.global_step == 4
    assert Ledger(tmp_path / "heads").steps() == []


def test_a_base_that_is_gone_leaves_the_weights_change_open(tmp_path: Path) -> None:
    def gone() -> nn.Module:
        raise OSError("no such model")

    tracker = HeadTracker(TrackingConfig(probes(), QUICK, base=gone))
    assert tracker._base(2, decoder()) is None
    assert tracker._base(0, decoder()) is not None
