"""A part of what a comparison says: tables, and a sentence for each finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd


@dataclass(frozen=True)
class Section:
    """One part, for the terminal and for files."""

    title: str
    sentences: Sequence[str]  # one a finding, each with its interval and what supports it
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)  # by the name of their file
    shown: pd.DataFrame | None = None  # of text, for the terminal
