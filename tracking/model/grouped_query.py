"""K and V of grouped-query attention, per query head for the time of an analysis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def ungrouped(attention: Any) -> Iterator[None]:
    groups = attention.num_key_value_groups
    attention.num_key_value_groups = 1
    try:
        yield
    finally:
        attention.num_key_value_groups = groups
