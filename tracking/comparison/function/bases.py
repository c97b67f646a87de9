"""Heads and MLPs between models of different bases, matched by function."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tracking.comparison.function.matching import Matching, matching, nodes_of
from tracking.comparison.party import Comparison, Party
from tracking.comparison.section import Section
from tracking.timeline.activity import Thresholds
from tracking.timeline.summary import counted, listed

KINDS = {"head": "heads", "mlp": "MLPs"}


def matching_section(comparison: Comparison) -> Section:
    """Every two models that are not of one base, on every contrast that both show; and what a
    control, of the first one's base, ended with."""
    sentences, parts = [], []
    for one, other in _couples(comparison):
        for contrast in comparison.contrasts:
            for kind in KINDS:
                matched = _matched(one, other, contrast, kind, comparison.thresholds)
                place = {"contrast": contrast, "model": one.name, "other": other.name, "kind": kind}
                parts.append(matched.table.assign(**place))
                sentences.append(_sentence(one, other, contrast, kind, matched))
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return Section(
        "Matched by function",
        sentences,
        {"matches": table} if parts else {},
        _shown(table) if len(table) else None,
    )


def _couples(comparison: Comparison) -> list[tuple[Party, Party]]:
    """Those whose nodes' names mean other nodes."""
    apart = [
        couple
        for couple in comparison.couples
        if not comparison.relations[couple[0].name, couple[1].name].one_base
    ]
    first = comparison.parties[0]
    levels = comparison.control.parties[-1:] if comparison.control else ()
    return apart + [(level, other) for level in levels for one, other in apart if one is first]


def _matched(
    one: Party, other: Party, contrast: str, kind: str, thresholds: Thresholds
) -> Matching:
    analyses = [party.record.analyses[contrast] for party in (one, other)]
    mine, theirs = (
        nodes_of(party.record.graph, analysis, thresholds, kind)
        for party, analysis in zip((one, other), analyses, strict=True)
    )
    behaviours = [(a.behaviour.clean - a.behaviour.corrupted).numpy() for a in analyses]
    return matching(mine, theirs, np.stack(behaviours), thresholds.error)


def _sentence(one: Party, other: Party, contrast: str, kind: str, matched: Matching) -> str:
    begin = f"On {contrast!r} pairs"
    kinds, table = KINDS[kind], matched.table
    if table.empty:
        return f"{begin} no {kinds} can be matched: one of the models has no active ones."
    sure = table[table["beyond_chance"]]
    each = listed([f"{row['node']} with {row['match']}" for _, row in sure.iterrows()])
    sure_ones = f"{len(sure)} beyond chance ({each})" if len(sure) else "none beyond chance"
    text = (
        f"{begin} {len(table)} active {kinds} of {one.name} are matched with those of "
        f"{other.name} by function, {sure_ones}; mean likeness {matched.mean:.2f}, with shuffled "
        f"pairs {matched.shuffled[0]:.2f} (95 % below {matched.shuffled[1]:.2f})"
    )
    if not np.isnan(matched.others):
        text += f", with inactive {kinds} {matched.others:.2f}"
    for party, names in zip((one, other), matched.unmatched, strict=True):
        if names:
            text += f"; {party.name} has {counted(names)} more ({listed(names)})"
    return text + "."


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "pairs": table["contrast"],
            **{name: table[name] for name in ("model", "node", "other", "match")},
            **{name: table[name].map("{:.2f}".format) for name in ("likeness", "correlation")},
            "p": table["p"].map("{:.3f}".format),
            "beyond chance": np.where(table["beyond_chance"], "yes", ""),
        }
    )
