"""Which parts of a model carry what another's behaviour is more than its own, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from torch import nn

from tracking.comparison.exchange.effect_table import WAYS
from tracking.comparison.exchange.parts import PartEffects, part_effects
from tracking.comparison.party import Comparison, Party
from tracking.comparison.section import Section
from tracking.timeline.summary import Figure, listed

PARTS = ("attention", "MLPs", "embeddings", "unembedding")
BY = ("writes", "weights")


def parts_section(comparison: Comparison) -> Section:
    """Every model of a family against its first, on every contrast; those of the first family
    beside the ends of a control."""
    tables, sentences, shown = [], [], []
    levels = _levels(comparison)
    for first, *others in comparison.families:
        for party in others:
            if first.load is None or party.load is None:
                gone = first if first.load is None else party
                sentences.append(f"{gone.name}'s weights are gone: no part of it is exchanged.")
                continue
            models = first.load(), party.load()
            for contrast in comparison.contrasts:
                effects = _effects(models, party, contrast, comparison.batch_size)
                named = {"contrast": contrast, "model": party.name, "against": first.name}
                tables.append(effects.table.assign(**named))
                sentences += _sentences(effects, **named)
                if contrast in levels and first is comparison.parties[0]:
                    beside = effects.against(levels[contrast], comparison.thresholds.share)
                    tables[-1] = tables[-1].join(beside)
                    sentences.append(_controlled(tables[-1], levels[contrast], **named))
                shown.append(_shown(effects, contrast, party.name))
    return Section(
        "Parts of one model in the other",
        sentences,
        {"parts": pd.concat(tables, ignore_index=True)} if tables else {},
        pd.concat(shown, ignore_index=True) if shown else None,
    )


def _levels(comparison: Comparison) -> dict[str, PartEffects]:
    """What parts do between the ends of a control, by contrast; empty without their weights."""
    first, last = comparison.control.parties if comparison.control else (None, None)
    if first is None or last is None or first.load is None or last.load is None:
        return {}
    models = first.load(), last.load()
    return {c: _effects(models, last, c, comparison.batch_size) for c in comparison.contrasts}


def _effects(
    models: tuple[nn.Module, nn.Module], party: Party, contrast: str, batch_size: int
) -> PartEffects:
    pairs = party.pairs[contrast]
    return part_effects(*models, pairs, min(batch_size, len(pairs)))


def _sentences(effects: PartEffects, contrast: str, model: str, against: str) -> Iterator[str]:
    size = Figure(*(float(end) for end in vars(effects.difference).values()))
    begin = f"On {contrast!r} pairs {model}'s behaviour less {against}'s is {size} logits"
    if not effects.there:
        yield f"{begin}: no difference for sure, so no part is said to carry it."
        return
    yield f"{begin}. What of it is lost with {against}'s part, and gained there with {model}'s:"
    for by in BY:
        rows = _rows(effects.table, by)
        each = "; ".join(f"{name} {_shares(rows[name])}" for name in PARTS)
        layer = max(
            (name for name in rows if name.startswith("heads of")),
            key=lambda name: max(rows[name][f"{way}_share"] for way in WAYS),
        )
        yield f"by {by}, {each}; of the layers most {layer}, {_shares(rows[layer])}."


def _controlled(
    table: pd.DataFrame, control: PartEffects, contrast: str, model: str, against: str
) -> str:
    """What parts of a control move, and which parts of the model carry more than that."""
    size = Figure(*(float(end) for end in vars(control.difference).values()))
    named = table[table["part"].isin(PARTS)]
    largest = named[[f"{way}_control" for way in WAYS]].abs().max(axis=None)
    more = [f"{row['part']} by {row['by']}" for _, row in named[named["beyond"]].iterrows()]
    return (
        f"On {contrast!r} pairs a control run's behaviour moves by {size} logits, by no part of it "
        f"more than {largest:.2g}; more than the control's carries of {model}'s less {against}'s: "
        f"{listed(more) if more else 'no part for sure'}."
    )


def _shown(effects: PartEffects, contrast: str, model: str) -> pd.DataFrame:
    """The parts that are no layer's, as text."""
    table = []
    for by in BY:
        for name, row in _rows(effects.table, by).items():
            if name in PARTS:
                cells = {way: str(_figure(row, way)) if effects.there else "-" for way in WAYS}
                table.append({"pairs": contrast, "model": model, "part": name, "by": by, **cells})
    return pd.DataFrame(table)


def _rows(table: pd.DataFrame, by: str) -> dict[str, Mapping[str, Any]]:
    rows = table[table["by"] == by].to_dict("records")
    return {str(row["part"]): row for row in rows}  # type: ignore[misc]  # to_dict's keys


def _shares(row: Mapping[str, Any]) -> str:
    return " and ".join(str(_figure(row, way)) for way in WAYS)


def _figure(row: Mapping[str, Any], way: str) -> Figure:
    return Figure(*(row[f"{way}_share{end}"] for end in ("", "_low", "_high")))
