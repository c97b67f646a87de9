"""The reference implementation's golden files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from tracking.pairs.prompt_pairs import PromptPairs

GOLDEN = ["qwen2_tiny", "qwen2_ragged", "qwen3_tiny", "llama_tied"]


@dataclass
class Golden:
    """A model, pairs and what the reference implementation makes of them."""

    model: Any
    pairs: PromptPairs
    tensors: dict[str, Tensor]

    @classmethod
    def read(cls, path: Path) -> Golden:
        with safe_open(path, "pt") as file:
            config = json.loads(file.metadata()["hf_config"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).eval()
        weights = {
            name.removeprefix("model/"): tensor
            for name, tensor in tensors.items()
            if name.startswith("model/")
        }
        missing, unexpected = model.load_state_dict(weights, strict=False)
        assert not unexpected
        assert missing == (["lm_head.weight"] if config["tie_word_embeddings"] else [])
        pairs = PromptPairs(
            tensors["clean_ids"],
            tensors["corrupted_ids"],
            tensors["attention_mask"],
            tensors["labels"],
        )
        return cls(model, pairs, tensors)
