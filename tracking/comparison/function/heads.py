"""What else differs of the heads of two models of one base: where they attend, how far their
weights are apart.

Roles are scores of attention, which no record has pair by pair. The null is the same model on two
halves of the pairs: a role differs where a score does by more than any head's does there, in either
model, and by at least a tenth.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import nn

from tracking.comparison.party import Comparison, Party
from tracking.comparison.section import Section
from tracking.nodes.role_words import THRESHOLDS, Roles
from tracking.nodes.roles import roles
from tracking.nodes.weight_change import Snapshot, snapshot, weight_change
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.timeline.summary import listed

LEAST = 0.1  # of a role's score


def heads_section(comparison: Comparison) -> Section:
    """Every two models of one base whose weights are there, and the ends of a control; those of
    the control's base are held against what its heads do."""
    parts, sentences = [], []
    for family in comparison.related:
        there = [party for party in family if party.load]
        largest = _in_control(comparison) if family[0] is comparison.parties[0] else {}
        weights: dict[str, Snapshot] = {}
        levels: dict[str, dict[str, np.ndarray]] = {}
        for party in there if len(there) > 1 else ():
            model = _loaded(party)
            levels[party.name] = {
                c: np.fmax(_level(model, party.pairs[c]), largest.get(c, np.nan))
                for c in comparison.contrasts
            }
            for before in there:
                if before.name not in weights:
                    continue
                moved = weight_change(model, weights[before.name])
                sentences.append(_moved(before, party, moved))
                for contrast in comparison.contrasts:
                    both = {one.name: levels[one.name][contrast] for one in (before, party)}
                    table = head_table(before, party, contrast, both)
                    parts.append(table.assign(weight_change=moved["change"].to_numpy()))
                    sentences.append(_roles(before, party, contrast, table, bool(largest)))
            weights[party.name] = snapshot(model)
    tables = {"heads": pd.concat(parts, ignore_index=True)} if parts else {}
    return Section("Roles and weights of heads", sentences, tables)


def head_table(
    before: Party, party: Party, contrast: str, levels: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """One row a head: its `role` in both models, the score that differs most beyond its `level`, by
    how much, and whether the role `differs`. `levels` [role] are what halves of the pairs give, or
    a control where that gives more."""
    graph = party.record.graph
    then, now = (_roles_of(one, contrast) for one in (before, party))
    by_score = _changes(before, party, contrast)
    level = np.fmax(*levels.values())[:, None]  # NaN: not known
    beyond = np.where(np.isnan(level), -np.inf, np.abs(np.nan_to_num(by_score)) - level)
    most = beyond.argmax(axis=0)
    change = np.take_along_axis(by_score, most[None], axis=0)[0]
    excess = np.take_along_axis(beyond, most[None], axis=0)[0]
    return pd.DataFrame(
        {
            "contrast": contrast,
            "model": party.name,
            "against": before.name,
            "head": graph.head_names,
            "role": now.main,
            "role_against": then.main,
            "score": np.array(list(THRESHOLDS))[most],
            "change": change,
            "level": level[most, 0],
            "differs": (excess > 0) & (np.abs(change) >= LEAST),
        }
    )


def _roles_of(party: Party, contrast: str) -> Roles:
    return Roles.of(party.record.graph.head_names, party.record.analyses[contrast].heads.roles)


def _changes(before: Party, party: Party, contrast: str) -> np.ndarray:
    """float [role, head]: of the scores."""
    then, now = (_roles_of(one, contrast).scores for one in (before, party))
    return np.stack([(now[name] - then[name]).numpy() for name in THRESHOLDS])


def _in_control(comparison: Comparison) -> dict[str, np.ndarray]:
    """float [role], by contrast: by how much a score of any head differs between the ends of a
    control; empty without one."""
    if comparison.control is None:
        return {}
    first, last = comparison.control.parties
    apart = {c: np.abs(_changes(first, last, c)) for c in comparison.contrasts}
    return {contrast: np.fmax.reduce(each, axis=1) for contrast, each in apart.items()}


def _level(model: nn.Module, pairs: PromptPairs) -> np.ndarray:
    """float [role]: by how much a score of any head differs between two halves of the pairs; NaN
    where they cannot tell."""
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))
    one, other = (roles(model, pairs[half]).scores for half in order.tensor_split(2))
    apart = [(one[name] - other[name]).abs().numpy() for name in THRESHOLDS]
    return np.array([np.nan if np.isnan(each).all() else np.nanmax(each) for each in apart])


def _loaded(party: Party) -> nn.Module:
    assert party.load is not None
    return party.load()


def _moved(before: Party, party: Party, moved: pd.DataFrame) -> str:
    if not moved["change"].any():
        return f"The weights of q, k, v and o are the same in {before.name} and {party.name}."
    most = moved.sort_values("change", ascending=False).head(3)
    each = ", ".join(f"{row['head']} {row['change']:.2g}" for _, row in most.iterrows())
    return (
        f"Attention weights of {party.name} are {moved['change'].median():.2g} of their norm away "
        f"from those of {before.name} (median over heads), most in {each}."
    )


def _roles(
    before: Party, party: Party, contrast: str, table: pd.DataFrame, controlled: bool
) -> str:
    begin = f"On {contrast!r} pairs"
    beyond = ", beyond any head of the control" if controlled else ""
    changed = table[table["differs"]]
    if changed.empty:
        return f"{begin} no head attends otherwise in {party.name} than in {before.name}{beyond}."
    changed = changed.sort_values("change", key=abs, ascending=False)
    each = listed(
        [
            f"{row['head']} ({row['score'].replace('_', ' ')} {row['change']:+.2f})"
            for _, row in changed.iterrows()
        ]
    )
    apart = f"{party.name} than in {before.name}{beyond}"
    return f"{begin} heads attend otherwise in {apart}: {each}."
