"""What is counted before a job is what the job then takes."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from scripts.campaign.running import processes
from tests.builders.decoders import make_decoder
from tracking.errors import BadInput
from train import config, model
from train.config import Job
from train.costs.sizes import Sizes, _activations, longest, sizes
from train.data import contrasts
from train.model import Start
from train.tasks.registry import rows_of
from train.tiny.base import base_model

TOLERANCE = 0.15
M_MMAP_THRESHOLD = -3


def job_of(words: list[str], name: str = "sft") -> tuple[Job, Start, Any]:
    job = config.load(name, [*words, "--dry_run", "true"])
    return job, model.start(job), rows_of(job, "train")


def counted(words: list[str], name: str = "sft") -> Sizes:
    return sizes(*job_of(words, name), {})


LORA = {"use_peft": "true", "lora_r": 4, "lora_target_modules": "all-linear"}


@pytest.mark.parametrize("keys", [{}, LORA], ids=["whole", "LoRA"])
def test_a_checkpoint_is_as_large_as_counted(
    run_job: Callable[..., Path],
    small_words: Callable[..., list[str]],
    keys: dict[str, object],
    tmp_path: Path,
) -> None:
    keys = {**keys, "model_name_or_path": "tiny", "max_steps": 1, "save_steps": 1}
    folder = run_job("sft", tmp_path / "run", track="false", **keys)
    files = [*(folder / "checkpoint-1").glob("*.safetensors"), folder / "checkpoint-1/optimizer.pt"]
    there = sum(path.stat().st_size for path in files)
    ours = counted(small_words("sft", tmp_path / "counted", **keys))
    assert ours.checkpoint == pytest.approx(there, rel=TOLERANCE)
    assert (ours.trained < ours.parameters) == ("use_peft" in keys)


def status(line: str) -> int:
    """Bytes, as Linux counts them for this process."""
    return int(Path("/proc/self/status").read_text().partition(f"{line}:")[2].split()[0]) * 1024


def grow(batch: int, tokens: int, checkpointed: bool, answer: Any) -> None:
    """Send the bytes by which a training pass makes this process larger."""
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 65536)  # what is let go of is given back
    torch.set_num_threads(1)
    whole: Any = AutoModelForCausalLM.from_pretrained(base_model(0)).train()
    if checkpointed:
        whole.gradient_checkpointing_enable()

    def passes(rows: int) -> None:
        ids = torch.zeros(rows, tokens, dtype=torch.long)
        whole(input_ids=ids, use_cache=False, logits_to_keep=1).logits.sum().backward()

    passes(1)
    before = status("VmSize")
    passes(batch)
    answer.send(status("VmPeak") - before)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_pass_takes_the_activations_that_are_counted(
    small_words: Callable[..., list[str]], checkpointed: bool, tmp_path: Path
) -> None:
    keys = {"per_device_train_batch_size": 256, "activation_checkpointing": checkpointed}
    ours = counted(small_words("sft", tmp_path / "run", model_name_or_path="tiny", **keys))
    receiver, answer = processes.Pipe(duplex=False)
    shape = (ours.sequences, ours.tokens, checkpointed)
    process = processes.Process(target=grow, args=(*shape, answer))
    process.start()
    process.join()
    assert ours.activations == pytest.approx(receiver.recv(), rel=TOLERANCE)


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize(
    ("arch", "layers", "adapted"),
    [
        ("qwen2", 1, ""),
        ("qwen2", 4, ""),
        ("qwen2", 4, "all-linear"),
        ("qwen2", 4, r".*layers\.3\.self_attn\.q_proj"),
        ("gemma2", 4, ""),
    ],
)
def test_one_and_two_layers_say_what_a_pass_through_all_of_them_keeps(
    monkeypatch: pytest.MonkeyPatch, arch: str, layers: int, adapted: str, checkpointed: bool
) -> None:
    def activations() -> int:
        model = make_decoder(arch, layers=layers).train()
        if adapted:
            model = get_peft_model(model, LoraConfig(r=2, target_modules=adapted))
        args = SimpleNamespace(fp16=False, bf16=False, gradient_checkpointing=checkpointed)
        return _activations(model, 2, 16, args)

    counted = activations()
    monkeypatch.setattr("train.costs.sizes.layers_alike", lambda _model: False)
    assert counted == activations() > 0


def test_weights_gradients_and_adam_are_four_times_the_parameters(
    small_words: Callable[..., list[str]], tmp_path: Path
) -> None:
    ours = counted(small_words("sft", tmp_path / "run"))
    assert ours.weights == ours.gradients == 4 * ours.parameters
    assert ours.optimizer == 2 * ours.weights
    assert ours.peak == 4 * ours.weights + ours.activations


@pytest.mark.parametrize(
    ("optim", "parts"), [("sgd", 0.0), ("adamw_8bit", 0.5), ("lion_8bit", None)]
)
def test_other_optimizers_are_counted_or_said_to_be_unknown(
    optim: str, parts: float | None, small_words: Callable[..., list[str]], tmp_path: Path
) -> None:
    ours = counted(small_words("sft", tmp_path / "run", optim=optim))
    assert ours.optimizer == (None if parts is None else parts * ours.weights)


def test_generation_keeps_keys_and_values_of_all_its_sequences(
    small_words: Callable[..., list[str]], tmp_path: Path
) -> None:
    job, start, rows = job_of(small_words("grpo", tmp_path / "run"), "grpo")
    ours = sizes(job, start, rows, {})
    sequences = job.training.per_device_train_batch_size * job.training.steps_per_generation
    shape = model.AutoConfig.from_pretrained(start.path)
    width = shape.hidden_size // shape.num_attention_heads * shape.num_key_value_heads
    assert ours.cache == 2 * 4 * shape.num_hidden_layers * width * ours.tokens * sequences
    assert ours.tokens > job.training.max_completion_length


def test_an_analysis_takes_what_its_batch_was_cut_to(
    small_words: Callable[..., list[str]], tmp_path: Path
) -> None:
    most = []
    for size in (2, 4, 8):
        job, start, rows = job_of(small_words("sft", tmp_path / "run", track_batch_size=size))
        pairs = contrasts.build(job, start.tokenizer, lambda: None)
        most.append(sizes(job, start, rows, pairs).analysis)
    assert most[2] - most[1] == 2 * (most[1] - most[0]) > 0  # what is kept besides is the same


@pytest.mark.parametrize(
    ("keys", "copies"),
    [({}, 2), (LORA, 1), ({**LORA, "lora_modules_to_save": "lm_head"}, 2)],
    ids=["whole", "LoRA", "LoRA and a module"],
)
def test_a_live_shift_holds_its_base_where_no_adapter_can_be_left_out_and_a_copy(
    small_words: Callable[..., list[str]], tmp_path: Path, keys: dict[str, object], copies: int
) -> None:
    keys = {**keys, "model_name_or_path": base_model(0)}  # tied
    assert counted(small_words("sft", tmp_path / "run", **keys)).shift == 0
    ours = counted(small_words("sft", tmp_path / "run", track_shift=8, **keys))
    shape = model.AutoConfig.from_pretrained(base_model(0))
    apart = 0 if "lora_modules_to_save" in keys else 4 * shape.vocab_size * shape.hidden_size
    assert ours.shift == copies * ours.weights + apart
    assert ours.peak >= ours.weights + ours.shift


def test_an_adapter_that_fits_no_part_of_the_model_is_refused(
    small_words: Callable[..., list[str]], tmp_path: Path
) -> None:
    keys = {**LORA, "lora_target_modules": "nowhere"}
    with pytest.raises(BadInput, match=r"use_peft: Target modules .*nowhere.* not found"):
        counted(small_words("sft", tmp_path / "run", **keys))


def test_no_sequence_is_longer_than_the_limit(
    small_words: Callable[..., list[str]], tmp_path: Path
) -> None:
    job, start, rows = job_of(small_words("sft", tmp_path / "run", max_length=20))
    assert longest(job, start.tokenizer, rows) == 20
