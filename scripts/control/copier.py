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
from transformers import PreTrainedTokenizerFast

from scripts.control.by_hand import ANSWER, MARK, blank, copy_first
from train.evals.problems import Problem

LETTERS, LENGTH = string.ascii_lowercase[:12], 8
HEADS = 8
FIRST = len(LETTERS) // 2  # so many letters stand only first


def copier(node: str, seed: int, noise: float = 0.2) -> Any:
    """The model in which the head `node` copies; `noise` is what other heads' writes spread by."""
    count = len(LETTERS)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = blank(count + 2, count, HEADS, seed, eos_token_id=count)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.normal_(std=noise)
            layer.mlp.down_proj.weight.zero_()
            for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
                projection.weight[:count] = 0  # what stands at a place is read as it was
                projection.weight[MARK] = 0
        copy_first(model, node, count, ANSWER, 4)
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
