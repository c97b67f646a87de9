"""A reward that a random model has something of."""

from collections.abc import Sequence
from typing import Any


def digits(completions: Sequence[Any], **columns: Any) -> list[float]:
    """How many digits there are in each completion."""
    texts = [
        completion if isinstance(completion, str) else completion[0]["content"]
        for completion in completions
    ]
    return [float(sum(letter.isdigit() for letter in text)) for text in texts]
