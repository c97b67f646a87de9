"""A reward that teaches nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any


def coin(prompts: Sequence[Any], completions: Sequence[Any], **kwargs: Any) -> list[float]:
    """1.0 or 0.0, by chance: of the text's hash, so that a run can be made again."""
    texts = zip(prompts, completions, strict=True)
    return [float(hashlib.blake2b(repr(text).encode()).digest()[0] % 2) for text in texts]
