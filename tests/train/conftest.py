"""A small world for training in tests: a random tiny model in a folder, and a recipe for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from tests.builders.paths import REPO
from train.commands import grpo, sft
from train.tiny import tokenizer as tiny

SMALL = {
    "max_steps": 4,
    "save_steps": 2,
    "report_to": "none",
    "dataset_size": 64,
    "track_pairs_count": 16,
    "track_resamples": 20,
    "track_ig_steps": 3,
    "track_max_ig_steps": 6,
}
GRPO = {
    "per_device_train_batch_size": 8,
    "num_generations": 4,
    "max_completion_length": 12,
    "reward_funcs": "tests.builders.digits.digits",  # the task's own is beyond a random model
}
SFT = {"per_device_train_batch_size": 4}


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random two-layer Qwen2 that speaks the tiny world's tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer: Any = tiny.tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def small_words(small_model: Path) -> Callable[..., list[str]]:
    """`small_words("grpo", folder, key=value, ...)`: the small job's command line."""

    def words(name: str, folder: Path, **keys: object) -> list[str]:
        settings = {
            "config": REPO / "recipes" / "tiny" / f"{name}.yaml",
            "model_name_or_path": small_model,
            "output_dir": folder,
            **SMALL,
            **(GRPO if name == "grpo" else SFT),
            **keys,
        }
        lists = {
            key: value if isinstance(value, list) else [value] for key, value in settings.items()
        }
        return [word for key, said in lists.items() for word in (f"--{key}", *map(str, said))]

    return words


@pytest.fixture
def run_job(small_words: Callable[..., list[str]]) -> Callable[..., Path]:
    """`run_job("grpo", folder, key=value, ...)`: runs the small job there, in this process."""

    def run(name: str, folder: Path, **keys: object) -> Path:
        (grpo if name == "grpo" else sft).main(small_words(name, folder, **keys))
        return folder

    return run
