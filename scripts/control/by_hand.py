"""Decoders whose weights are set by hand: a blank one, and the wires of its heads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

LAYERS, HEAD_DIM = 3, 16
ANSWER, MARK = slice(36, 48), 48  # directions of the stream that the unembedding, and queries, read
LOUD = 20.0  # of the mark, so that norms hardly depend on what is written


def blank(vocabulary: int, tokens: int, heads: int, seed: int, **keys: Any) -> Any:
    """A Qwen2 of small random weights that embeds and unembeds so many tokens of its vocabulary
    exactly, in directions of their own, and marks every position."""
    width = heads * HEAD_DIM
    config = Qwen2Config(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=32,
        num_hidden_layers=LAYERS, num_attention_heads=heads, num_key_value_heads=heads,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1e12}, **keys,
    )  # fmt: skip
    torch.manual_seed(seed)
    model: Any = Qwen2ForCausalLM(config).eval()
    for parameter in model.model.layers.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=0.05)
    embedding, unembedding = model.model.embed_tokens.weight, model.lm_head.weight
    embedding.zero_()
    embedding[:tokens, :tokens] = 3 * torch.eye(tokens)
    embedding[:, MARK] = LOUD
    unembedding.zero_()
    unembedding[:tokens, ANSWER] = 4 * torch.eye(tokens)
    return model


def copy_first(model: Any, node: str, tokens: int, target: slice, size: float) -> None:
    """Make a head copy which of the tokens stood first, one of the lower half, to `target`."""
    query, key, value, out = head_views(model, node)
    query[HEAD_DIM // 2 - 1, MARK] = 8  # the slowest rotation hardly turns
    key[HEAD_DIM // 2 - 1, : tokens // 2] = 8
    value[:tokens, :tokens] = torch.eye(tokens)
    out[target, :tokens] = size * torch.eye(tokens)


def head_views(model: Any, node: str) -> tuple[Tensor, ...]:
    """Views of a head's weights by query, key, value and output, set to 0; a head's K and V must be
    its own."""
    layer, head = (int(part) for part in node[1:].split("H"))
    attention = model.model.layers[layer].self_attn
    rows = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        projection.bias[rows] = 0
    views = (attention.q_proj.weight[rows], attention.k_proj.weight[rows],
             attention.v_proj.weight[rows], attention.o_proj.weight[:, rows])  # fmt: skip
    for view in views:
        view.zero_()
    return views
