"""What the tests of the science share: analyses by hand, and the reference's golden files."""

import json
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from tracking.ledger.record import Analysis
from tracking.model.graph import Graph
from tracking.nodes.role_words import SCORES
from tracking.nodes.weight_change import CHANGES
from tracking.pairs.prompt_pairs import PromptPairs

GOLDEN = ["qwen2_tiny", "qwen2_ragged", "qwen3_tiny", "llama_tied"]


def make_analysis(graph: Graph, **overrides: Any) -> Analysis:
    """A sound one in which no head does anything; `overrides` are fields that differ."""
    heads, zeros = len(graph.head_names), partial(torch.zeros, graph.edge_mask.shape)
    plain: dict[str, Any] = {
        "edge_scores": zeros(),
        "strength": zeros(),
        "circuit": zeros().bool(),
        "in_circuit": torch.zeros(10, heads, dtype=torch.bool),
        "edge_membership": zeros(),
        "ensemble": torch.zeros(3, heads),
        "effect": torch.zeros(16, heads),
        "half_membership": torch.zeros(20, 2, heads),
        "half_effect": torch.zeros(20, 2, heads),
        "half_error": torch.zeros(20, 2, heads),
        "curve": torch.tensor([[0.1, 0.8, 0.7, 0.9], [1, 1, 1, 1]]),
        "roles": torch.zeros(len(SCORES), heads),
        "weight_change": torch.zeros(len(CHANGES), heads),
        "gap": 0.01,
        "clean": 0.9,
        "corrupted": 0.1,
        "difference_low": 0.4,
        "faithfulness": 0.9,
        "faithfulness_low": 0.85,
        "faithfulness_high": 0.95,
        "complement": 0.1,
        "accuracy": 0.75,
        "clean_accuracy": 1.0,
        "cpr": 0.8,
        "cmd": 0.2,
        "jaccard": 0.8,
        "jaccard_low": 0.7,
        "jaccard_high": 0.9,
        "rank_correlation": 0.95,
        "pairs_needed": 64.0,
    }
    values = {**plain, **overrides}
    few = len(values["effect"])  # as often as it takes to be no weak record by their number
    values["effect"] = values["effect"].repeat_interleave(-(-16 // few), dim=0)
    parts = {
        part: result(**{item.name: values[item.name] for item in fields(result)})
        for part, result in get_type_hints(Analysis).items()
    }
    return Analysis(**parts)


@dataclass
class Golden:
    """A model, pairs and what the reference implementation makes of them."""

    model: Any
    pairs: PromptPairs
    tensors: dict[str, Tensor]


@pytest.fixture(scope="session", params=GOLDEN)
def golden(request: pytest.FixtureRequest, shared: Path) -> Golden:
    path = shared / "golden" / f"{request.param}.safetensors"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["hf_config"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).eval()
    weights = {k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert missing == (["lm_head.weight"] if config["tie_word_embeddings"] else [])
    pairs = PromptPairs(
        tensors["clean_ids"],
        tensors["corrupted_ids"],
        tensors["attention_mask"],
        tensors["labels"],
    )
    return Golden(model, pairs, tensors)
