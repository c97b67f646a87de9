"""Folders of checkpoints as other trainers leave them: random tiny models, saved in their ways."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from train.tiny import tokenizer as tiny

QUICK = ["--track_select", "edges=9", "--track_ig_steps", "2", "--track_max_ig_steps", "2",
         "--track_resamples", "10"]  # fmt: skip


def save_model(
    folder: Path, seed: int, tokenizer: bool = True, heads: int = 4, shard: str = "5GB"
) -> Path:
    """A random two-layer Qwen2 of the tiny world; `shard` is the size of its files."""
    words: Any = tiny.tokenizer()
    config = Qwen2Config(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.4,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        Qwen2ForCausalLM(config).save_pretrained(folder, max_shard_size=shard)
    if tokenizer:
        words.save_pretrained(folder)
    return folder


def save_checkpoints(folder: Path, steps: Sequence[int] = (100, 200), **more: Any) -> Path:
    """`checkpoint-100`, ... of a model whose weights go from one random draw to another."""
    for step in steps:
        save_model(folder / f"checkpoint-{step}", seed=step, **more)
    return folder


def save_adapter(folder: Path, base: Path, seed: int, named: str = "", **more: Any) -> Path:
    """A LoRA adapter on the model in `base`, which it calls `named`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LoraConfig(
            r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False, **more
        )
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
        model.save_pretrained(str(folder))
    path = folder / "adapter_config.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "base_model_name_or_path": named or str(base)}))
    return folder


def write_pairs(folder: Path, count: int = 6, **more: str) -> Path:
    """A file of prompt pairs that differ in an operand, `letters.jsonl`."""
    rows = [
        {"clean": f"{i:02}+1=", "corrupted": f"{i:02}+2=", "correct": "a", "incorrect": "b", **more}
        for i in range(count)
    ]
    path = folder / "letters.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def write_log(checkpoint: Path, rewards: Mapping[int, float]) -> None:
    """A `trainer_state.json` with this reward by step."""
    rows = [{"step": step, "reward": reward} for step, reward in rewards.items()]
    (checkpoint / "trainer_state.json").write_text(json.dumps({"log_history": rows}))
