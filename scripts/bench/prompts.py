"""Pairs of real prompts for a model whose weights are random, and labels that it tells apart."""

from __future__ import annotations

import json
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tracking.errors import BadInput
from tracking.model.decoder import Decoder, embed
from tracking.model.passes import logits
from tracking.model.rest import by_length
from tracking.pairs.prompt_pairs import PromptPairs


def digit_pairs(tokenizer: Any, problems: Path, pairs: int, tokens: int) -> PromptPairs:
    """Pairs of `tokens` tokens each, without labels: problems in a row, another one first in every
    pair, cut to length; in the corrupted prompt every digit is the next one, but for a last token.

    `problems` is a JSONL file with `problem`. Raises `BadInput` where it is not there, or where it
    has fewer tokens, or a pair no digit.
    """
    if not problems.is_file():
        raise BadInput(f"{problems} is not there: a JSONL file of problems, one `problem` a line")
    texts = [json.loads(line)["problem"] for line in problems.read_text().splitlines()]
    each = [tokenizer(text + "\n\n")["input_ids"] for text in texts]
    if sum(map(len, each)) < tokens:
        raise BadInput(f"{problems} has {sum(map(len, each))} tokens, fewer than {tokens}")
    digits = [tokenizer.convert_tokens_to_ids(digit) for digit in "0123456789"]
    after = dict(zip(digits, digits[1:] + digits[:1], strict=True))
    rows = islice(_changed(each, after, tokens), pairs)
    clean, corrupted = map(torch.tensor, zip(*rows, strict=True))
    return PromptPairs(clean, corrupted)


def _changed(each: list[list[int]], after: dict[int, int], tokens: int):
    """Clean and corrupted token ids of one pair after the other, without end; those of a second
    round begin a token later."""
    for start in count():
        first, later = start % len(each), start // len(each)
        row = [token for problem in each[first:] + each[:first] for token in problem]
        row = row[later : later + tokens]
        changed = [*(after.get(token, token) for token in row[:-1]), row[-1]]
        if changed != row:
            yield row, changed


def random_pairs(vocabulary: int, pairs: int, tokens: int) -> PromptPairs:
    """The same of random tokens: in the corrupted prompt one in eight is the next id's."""
    clean = torch.randint(vocabulary, (pairs, tokens), generator=torch.Generator().manual_seed(0))
    corrupted = clean.clone()
    corrupted[:, 3:-1:8] = (clean[:, 3:-1:8] + 1) % vocabulary
    return PromptPairs(clean, corrupted)


def told_apart(model: nn.Module, pairs: PromptPairs, batch_size: int) -> PromptPairs:
    """The pairs with the labels that the model tells apart best by what differs in their prompts:
    the token whose logit is most above that on the corrupted prompt, and most below it.

    Weights that nothing has taught have no behaviour on labels of another's choice, and an analysis
    leaves out much where there is none.
    """
    decoder = Decoder.of(model)
    labels = torch.zeros(len(pairs), 2, dtype=torch.long)
    with torch.no_grad():
        for rows in by_length(pairs, batch_size):
            batch = pairs[rows].to(decoder.device)
            clean, corrupted = (
                _last(decoder, batch, ids) for ids in (batch.clean, batch.corrupted)
            )
            change = clean - corrupted
            labels[rows] = torch.stack([change.argmax(-1), change.argmin(-1)], dim=-1).cpu()
    return PromptPairs(pairs.clean, pairs.corrupted, pairs.attention_mask, labels)


def _last(decoder: Decoder, pairs: PromptPairs, token_ids: Tensor) -> Tensor:
    """Float32 [pair, vocabulary]: logits at the last token of each prompt."""
    return logits(decoder, embed(decoder, token_ids), pairs)[:, -1]
