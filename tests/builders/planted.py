"""A decoder whose weights are set by hand so that one head alone carries the answer.

The answer is the token that stood first. `COPY` reads the first position's token and writes it to
the last; every other head and MLP writes noise into directions that the unembedding cannot see. It
moves the norms a little, so that shares are 1 and 0 but for about the fourth power of the noise.
"""

from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from tracking import PromptPairs

TOKENS, HEADS, LAYERS, HEAD_DIM, WIDTH = 12, 4, 3, 16, 64


COPY = "L1H2"


NOISE = slice(40, WIDTH)  # stream directions that nothing but noise uses


def planted(seed: int = 0, noise: float = 0.05) -> Qwen2ForCausalLM:
    """`noise`: the standard deviation of the weights of all that carries nothing."""
    config = Qwen2Config(
        vocab_size=TOKENS, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=HEADS, tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1e12},
    )  # fmt: skip
    torch.manual_seed(seed)
    model: Any = Qwen2ForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=noise)
        for layer in model.model.layers:
            for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
                projection.weight[: NOISE.start] = 0  # noise does not reach the answer
        identity = torch.zeros(TOKENS, WIDTH)
        identity[:, :TOKENS] = torch.eye(TOKENS)
        # token in dimensions 0..11, the same again in 12..23 once copied; 24 marks the first token
        model.model.embed_tokens.weight.copy_(3 * identity)
        model.model.embed_tokens.weight[:, 30] = 1.0
        model.lm_head.weight.zero_()
        model.lm_head.weight[:, TOKENS : 2 * TOKENS] = 4 * torch.eye(TOKENS)
        plant(model.model.layers[1].self_attn, int(COPY[-1]))
    return model


def plant(attention: Any, head: int) -> None:
    """Attend to the first position (tokens 0..5 stand only there) and copy its token."""
    rows = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        projection.weight[rows] = 0
        projection.bias[rows] = 0
    slow = head * HEAD_DIM + HEAD_DIM // 2 - 1  # the slowest rotation hardly turns
    attention.q_proj.weight[slow, 30] = 8.0
    attention.k_proj.weight[slow, : TOKENS // 2] = 8.0
    attention.v_proj.weight[rows][:TOKENS, :TOKENS] = torch.eye(TOKENS)
    attention.o_proj.weight[:, rows] = 0
    out = attention.o_proj.weight[TOKENS : 2 * TOKENS, rows]
    out[:, :TOKENS] = 4 * torch.eye(TOKENS)


def pairs(count: int = 16) -> PromptPairs:
    generator = torch.Generator().manual_seed(0)
    rest = torch.randint(TOKENS // 2, TOKENS, (count, 7), generator=generator)
    first = torch.arange(count) % (TOKENS // 2)
    other = (first + 1) % (TOKENS // 2)
    clean, corrupted = (torch.cat([x[:, None], rest], dim=1) for x in (first, other))
    return PromptPairs(clean, corrupted, labels=torch.stack([first, other], dim=1))
