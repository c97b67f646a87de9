"""Random prompts of different lengths, and what models go on with."""

from typing import Any

import torch
from torch import Tensor

NEW = 6


def prompts(rows: int = 4, length: int = 7, seed: int = 0) -> dict[str, Any]:
    """Random prompts of different lengths, padded on the left."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 50, (rows, length), generator=generator)
    starts = torch.arange(rows)[:, None] % (length - 2)
    return {"input_ids": ids, "attention_mask": (torch.arange(length) >= starts).long()}


def generated(model: Any, inputs: dict[str, Tensor], **more: Any) -> Tensor:
    """LongTensor [row, position]: prompts and greedy answers."""
    options = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0, **more}
    return model.generate(**inputs, **options)
