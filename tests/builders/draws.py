"""What tests with random inputs draw from."""

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st

ARCHES = ["qwen2", "qwen3", "llama", "mistral", "phi3", "gemma3_text"]


METRICS = ["kl", "neg_logit_diff", "prob", "nll"]


METHODS = ["eap", "eap-ig", "eap-ig-activations", "clean-corrupted", "exact", "node-ig"]


arches = pytest.mark.parametrize("arch", ARCHES)


seeds = st.integers(0, 10_000)


def few(examples: int) -> Callable:
    """Few examples, the same ones on every run: each is a comparison of floats."""
    return settings(max_examples=examples, derandomize=True)


sides = st.sampled_from(["left", "right"])
