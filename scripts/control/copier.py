"""A model in which one head alone solves the problems: it copies the first letter to the end.

All other heads and the MLPs write noise, some of which the unembedding sees, so that random heads
have small effects of their own. A problem is a word of letters, its answer the first.
"""

from __future__ import annotations

import random
import string
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from scripts.control.crossed import head_views
from train.evals.problems import Problem

LETTERS, WIDTH, HEAD_DIM, LENGTH = string.ascii_lowercase[:12], 128, 16, 8
LAYERS, HEADS = 3, 8
ANSWER, MARK = slice(36, 48), 48  # directions of the stream
LOUD = 20.0  # of the mark, so that norms hardly depend on what is written
FIRST = len(LETTERS) // 2  # so many letters stand only first


def copier(node: str, seed: int, noise: float = 0.2) -> Any:
    """The model in which the head `node` copies; `noise` is what other heads' writes spread by."""
    config = Qwen2Config(
        vocab_size=len(LETTERS) + 2, hidden_size=WIDTH, intermediate_size=32,
        num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=HEADS,
        tie_word_embeddings=False, eos_token_id=len(LETTERS),
        rope_parameters={"rope_type": "default", "rope_theta": 1e12},
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model: Any = Qwen2ForCausalLM(config).eval()
        for parameter in model.model.layers.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.05)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.normal_(std=noise)
            layer.mlp.down_proj.weight.zero_()
            for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
                projection.weight[: len(LETTERS)] = 0  # what stands at a place is read as it was
                projection.weight[MARK] = 0
        model.model.embed_tokens.weight.zero_()
        model.model.embed_tokens.weight[: len(LETTERS), : len(LETTERS)] = 3 * torch.eye(
            len(LETTERS)
        )
        model.model.embed_tokens.weight[:, MARK] = LOUD
        model.lm_head.weight.zero_()
        model.lm_head.weight[: len(LETTERS), ANSWER] = 4 * torch.eye(len(LETTERS))
        query, key, value, out = head_views(model, node)
        query[HEAD_DIM // 2 - 1, MARK] = 8  # the slowest rotation hardly turns
        key[HEAD_DIM // 2 - 1, :FIRST] = 8
        value[: len(LETTERS), : len(LETTERS)] = torch.eye(len(LETTERS))
        out[ANSWER, : len(LETTERS)] = 4 * torch.eye(len(LETTERS))
    return model


def letters() -> PreTrainedTokenizerFast:
    """Its tokenizer: a token a letter, a chat template that says the question alone."""
    vocabulary = {letter: place for place, letter in enumerate((*LETTERS, "<eos>", "<pad>"))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.Split("", "isolated")  # type: ignore[assignment]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<eos>", pad_token="<pad>", padding_side="left"
    )
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    return tokenizer


def words(count: int, seed: int) -> tuple[Problem, ...]:
    """Different problems."""
    draw, out = random.Random(seed), {}
    while len(out) < count:
        rest = "".join(draw.choices(LETTERS[FIRST:], k=LENGTH - 1))
        word = draw.choice(LETTERS[:FIRST]) + rest
        out[word] = Problem("words", word, word[0])
    return tuple(out.values())
