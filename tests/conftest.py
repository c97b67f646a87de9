"""Fixtures of all tests: small random decoders and pairs, made in place from a seed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.builders.paths import SHARED
from tracking.pairs.prompt_pairs import PromptPairs


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The material beside the repository; tests that need it are skipped where it is not."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there")
    return SHARED


@pytest.fixture(scope="session")
def tiny_decoder() -> Callable[..., Any]:
    return make_decoder


@pytest.fixture(scope="session")
def random_pairs() -> Callable[..., PromptPairs]:
    return make_pairs


def make_decoder(
    arch: str = "qwen2",
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int = 8,
    width: int = 32,
    vocabulary: int = 50,
    tied: bool = False,
    seed: int = 0,
    **more: Any,
) -> Any:
    """A Hugging Face decoder in float32, in eval mode, in which nothing is trivial.

    Biases are not 0, norms not 1, and weights large enough that attention is not even. `more` goes
    to the architecture's config. The global random state stays as it is.
    """
    sizes = {
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "vocab_size": vocabulary,
        "max_position_embeddings": 128,
        "tie_word_embeddings": tied,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    with torch.random.fork_rng([]):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(arch, **sizes, **more))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("bias"):
            value = 0.3 * noise
        elif "norm" in name:
            value = 1 + 0.3 * noise
        elif "embed" in name:
            value = 0.5 * noise
        else:
            value = 1.5 * noise / parameter.shape[1] ** 0.5
        parameter.data.copy_(value)
    return model.eval()


def make_pairs(
    pairs: int = 5,
    length: int = 8,
    vocabulary: int = 50,
    ragged: bool = False,
    side: str = "right",
    looks: int = 1,
    labels: bool = True,
    seed: int = 0,
) -> PromptPairs:
    """Random pairs that differ between clean and corrupted in their first token and in others.

    `ragged` ones have from half of `length` to all of it; padding, on `side`, is random tokens that
    differ between clean and corrupted too. The metric looks at `looks` random positions and always
    at the last one.
    """
    generator = torch.Generator().manual_seed(seed)

    def drawn(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=generator)

    sizes = drawn((length + 1) // 2, length + 1, pairs) if ragged else torch.full((pairs,), length)
    positions = torch.arange(length).expand(pairs, -1)
    starts = (length - sizes if side == "left" else torch.zeros_like(sizes))[:, None]
    mask = (positions >= starts) & (positions < starts + sizes[:, None])
    clean = drawn(0, vocabulary, pairs, length)
    other = (clean + drawn(1, vocabulary, pairs, length)) % vocabulary
    changed = (drawn(0, 3, pairs, length) == 0) | (positions == starts) | ~mask
    last = positions == starts + sizes[:, None] - 1
    rank = torch.rand(pairs, length, generator=generator).masked_fill(~mask, 2)
    rank = rank.masked_fill(last, -1).argsort(1).argsort(1)
    first = drawn(0, vocabulary, pairs, 1)
    second = (first + drawn(1, vocabulary, pairs, 1)) % vocabulary
    return PromptPairs(
        clean,
        torch.where(changed, other, clean),
        mask.long(),
        torch.cat([first, second], dim=1) if labels else None,
        (rank < looks) & mask,
    )
