"""Real problems, the real Qwen tokenizer and a small random Qwen2: the path of a real run.

Rewards are near zero. What is checked is that data, lengths, chat template, grading by math-verify,
pairs by digit swap and tracking all work on real text.
"""

from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from tests.builders.paths import SHARED
from tracking import Ledger
from tracking.pairs.frozen import load_pairs
from train.commands import grpo, sft

GSM8K, TOKENIZER = SHARED / "data" / "gsm8k_train.jsonl", SHARED / "qwen-tokenizer"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not GSM8K.exists(), reason=f"needs {GSM8K}"),
    pytest.mark.skipif(not TOKENIZER.exists(), reason=f"needs {TOKENIZER}"),
]
COMMON = {
    "dataset_name": GSM8K,
    "dataset_size": 100,
    "max_steps": 1,
    "save_steps": 1,
    "logging_steps": 1,
    "use_cpu": "true",
    "bf16": "false",
    "activation_checkpointing": "false",
    "report_to": "none",
    "track_pairs_count": 8,
    "track_pairs_minimum": 8,
    "track_resamples": 20,
    "track_ig_steps": 3,
    "track_max_ig_steps": 3,
    "track_batch_size": 8,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small random Qwen2 of the real vocabulary."""
    folder = tmp_path_factory.mktemp("qwen")
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    config = Qwen2Config(
        vocab_size=151936,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def words(**keys: object) -> list[str]:
    lists = {k: v if isinstance(v, list) else [v] for k, v in keys.items()}
    return [str(word) for key, values in lists.items() for word in (f"--{key}", *values)]


def test_grpo_on_gsm8k(model: Path, tmp_path: Path) -> None:
    rewards = ["accuracy_reward", "think_format_reward"]
    shape = {"per_device_train_batch_size": 4, "num_generations": 2, "max_completion_length": 24}
    contrasts = ["operand", "answer"]
    keys = {
        "reward_funcs": rewards,
        "track_contrasts": contrasts,
        "log_completions": "true",
        **shape,
    }
    grpo.main(words(model_name_or_path=model, output_dir=tmp_path / "run", **COMMON, **keys))
    ledger = Ledger(tmp_path / "run" / "heads")
    assert ledger.steps() == [0, 1]
    assert list(ledger.read(1).analyses) == contrasts
    pairs = load_pairs(ledger.pairs_path)
    clean, corrupted = pairs["operand"].texts[0]
    assert "<|im_start|>user" in clean and clean != corrupted
    assert all(
        (of_contrast.clean != of_contrast.corrupted).any(1).all() for of_contrast in pairs.values()
    )
    (logged, *_) = sorted((tmp_path / "run" / "completions").glob("*.parquet"))
    completions = pd.read_parquet(logged)
    assert {"accuracy_reward", "gold_parsed"} <= set(completions.columns)
    assert (completions["gold_parsed"] != "[unparseable]").all()


def test_sft_on_gsm8k(model: Path, tmp_path: Path) -> None:
    shape = {"per_device_train_batch_size": 1, "max_length": 384, "assistant_only_loss": "true"}
    keys = {"track_contrasts": "result", **shape}
    sft.main(words(model_name_or_path=model, output_dir=tmp_path / "run", **COMMON, **keys))
    records = Ledger(tmp_path / "run" / "heads").records()
    assert [record.step for record in records] == [0, 1]
    assert records[1].reward_name == "loss"
    # a loss over the assistant's tokens only starts near that of guessing among the vocabulary
    assert records[1].reward == pytest.approx(torch.tensor(151936.0).log().item(), abs=0.5)
