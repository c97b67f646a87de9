"""Which models are of one base, by which rule: only then does a node's name mean the same node."""

from __future__ import annotations

import pandas as pd

from tracking.comparison.party import Comparison
from tracking.comparison.section import Section


def origins_section(comparison: Comparison) -> Section:
    """The relation of every two models."""
    rows = [
        {"model": other.name, "against": one.name,
         **vars(comparison.relations[one.name, other.name])}
        for one, other in comparison.couples
    ]  # fmt: skip
    sentences = [
        f"{row['against']} and {row['model']} are "
        f"{'of one base' if row['one_base'] else 'not known to be of one base'}: {row['rule']}."
        for row in rows
    ]
    return Section("Bases", sentences, {"bases": pd.DataFrame(rows)})
