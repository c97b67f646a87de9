"""A decoder whose weights are set by hand: two writers and two readers, wired straight or crossed.

The answer is the token that stood first. Each writer copies it to a channel of its own at every
position; each reader copies a channel, or a part of both, to where the unembedding looks. The heads
between copy a little of it directly: they are next in rank, and no wire of the crossed model is.
Other heads and all MLPs write noise that the unembedding does not see.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from tracking.pairs.prompt_pairs import PromptPairs

TOKENS, WIDTH, HEAD_DIM, LENGTH = 12, 64, 16, 8
WRITERS, READERS = ("L0H1", "L0H2"), ("L2H0", "L2H3")
DIRECT = ("L1H0", "L1H1", "L1H2", "L1H3")
LOUD = 20.0  # of the mark, so that norms hardly depend on what is written
CHANNELS = (slice(12, 24), slice(24, 36))
ANSWER, MARK, NOISE = slice(36, 48), 48, slice(50, WIDTH)  # directions of the stream


def crossed(part: float, seed: int = 0) -> Any:
    """The model in which each reader reads this part from the other writer's channel."""
    config = Qwen2Config(
        vocab_size=TOKENS, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=4, tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1e12},
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model: Any = Qwen2ForCausalLM(config).eval()
        for parameter in model.model.layers.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.05)
        for layer in model.model.layers:
            for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
                projection.weight[: NOISE.start] = 0
        model.model.embed_tokens.weight.zero_()
        model.model.embed_tokens.weight[:, :TOKENS] = 3 * torch.eye(TOKENS)
        model.model.embed_tokens.weight[:, MARK] = LOUD
        model.lm_head.weight.zero_()
        model.lm_head.weight[:, ANSWER] = 4 * torch.eye(TOKENS)
        copies = [*zip(WRITERS, CHANNELS, strict=True), *((node, ANSWER) for node in DIRECT)]
        for node, target in copies:
            query, key, value, out = head_views(model, node)
            query[HEAD_DIM // 2 - 1, MARK] = 8  # the slowest rotation hardly turns
            key[HEAD_DIM // 2 - 1, : TOKENS // 2] = 8  # these tokens stand only first
            value[:TOKENS, :TOKENS] = torch.eye(TOKENS)
            out[target, :TOKENS] = (4 if node in WRITERS else 0.25) * torch.eye(TOKENS)
        for reader, own, other in zip(READERS, CHANNELS, CHANNELS[::-1], strict=True):
            *_, value, out = head_views(model, reader)
            value[:TOKENS, own] = (1 - part) * torch.eye(TOKENS)
            value[:TOKENS, other] = part * torch.eye(TOKENS)
            out[ANSWER, :TOKENS] = 2 * torch.eye(TOKENS)
    return model


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


def pairs_of(count: int, seed: int = 0) -> PromptPairs:
    """Prompts that differ in their first token."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.arange(count) % (TOKENS // 2)
    moved = torch.randint(1, TOKENS // 2, (count,), generator=generator)
    other = (first + moved) % (TOKENS // 2)
    rest = torch.randint(TOKENS // 2, TOKENS, (count, LENGTH - 1), generator=generator)
    clean, corrupted = (torch.cat([one[:, None], rest], dim=1) for one in (first, other))
    return PromptPairs(clean, corrupted, labels=torch.stack([first, other], dim=1))
