"""What a shift says, in sentences and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from tracking.comparison.exchange.effect_table import WAYS
from tracking.comparison.section import Section
from tracking.comparison.shift.control import ControlLevel, beyond
from tracking.comparison.shift.divergence import SHARE
from tracking.comparison.shift.shift import TOGETHER, Carried, Shift
from tracking.comparison.shift.shown import preferences
from tracking.stability.bootstrap import Interval
from tracking.timeline.summary import Figure, listed

Row = Mapping[str, float]  # of an `effect_table`

KINDS = 6  # of what is preferred to what, that are named
PARTS = ("attention", "MLPs", "embeddings", "unembedding")


def shift_section(
    name: str, base: str, shift: Shift, places: pd.DataFrame, level: ControlLevel | None = None
) -> Section:
    """Of the shift of the model of a name from its base, its `positions`, and a control's level
    where there is one."""
    sentences = [_policies(shift, places)]
    tables = {"positions": places}
    if shift.carried is None:
        sentences.append(f"Nobody is said to carry it: {shift.why_not}.")
    else:
        sentences += [*_where(shift.carried, places), *_who(shift.carried), *_whole(shift.carried)]
        tables |= {
            "nodes": shift.carried.nodes,
            "parts": shift.carried.parts,
            "by_weights": shift.carried.by_weights,
        }
    if level is not None:
        sentences += _control(level, shift)
        tables["control"] = level.nodes
    called = name.replace("/", "-")
    return Section(
        f"What training changed from {base} to {name}",
        sentences,
        {f"shift_{key}_{called}": table for key, table in tables.items()},
        None if shift.carried is None else _shown(shift.carried, level),
    )


def _policies(shift: Shift, places: pd.DataFrame) -> str:
    policy = shift.divergence
    begin = (
        f"On {len(places)} tokens of {places['text'].nunique()} completions of their own the "
        f"policies differ by {policy.mean:.3g} nats a token"
    )
    if policy.mean == 0:
        return f"{begin}."
    return (
        f"{begin}; {SHARE:.0%} of it lies on {policy.concentration:.1%} of the tokens, where it "
        f"would on {policy.concentration_of_entropy:.1%} if it went with the base's entropy."
    )


def _where(carried: Carried, table: pd.DataFrame) -> Iterator[str]:
    places = carried.places
    kinds = preferences(table).head(KINDS).to_dict("records")
    named = ", ".join(f"{one['trained']!r} for {one['base']!r} ({one['places']})" for one in kinds)
    if places.agreeing:
        yield (
            f"At {places.agreeing} of the positions that carry it both prefer the same token: "
            "these are left out."
        )
    yield (
        f"At {places.count} positions, in texts of {places.prompts} prompts, with "
        f"{places.held:.0%} of the divergence, they prefer different ones: {named}."
    )
    yield (
        f"There the trained model prefers its token to the base's by {_of(carried.behaviour)} "
        "logits more than the base does; that this is above 0 is by construction."
    )


def _who(carried: Carried) -> Iterator[str]:
    nodes, parts = _rows(carried.nodes, "node"), _rows(carried.parts, "part")
    if carried.carriers:
        each = listed([f"{name} ({_short(nodes[name])})" for name in carried.carriers])
        yield f"Single nodes of one model in the other carry it: {each}."
    elif not carried.uncorrected:
        yield f"No single node comes out: none is sure to carry {carried.least:.2g} of it alone."
    if carried.uncorrected:
        each = listed([f"{name} ({_short(nodes[name])})" for name in carried.uncorrected])
        none = "" if carried.carriers else "No single node comes out. "
        yield (
            f"{none}Not after correction over {len(nodes)} nodes and two ways, with texts of "
            f"{carried.places.prompts} prompts, but each by itself: {each}."
        )
    if TOGETHER in parts:
        yield f"These together: {_long(parts[TOGETHER])}; they were chosen on these very texts."
    yield from _weights(_rows(carried.by_weights, "part"))
    screened, halves = carried.screened, carried.halves
    if screened.left_out:
        yield (
            f"{screened.left_out} nodes were left out by their first-order estimates; of "
            f"{screened.sampled} of these that were measured all the same {screened.missed} come "
            "out."
        )
    yield (
        f"On two halves of the prompts the nodes' shares correlate by {halves.correlation:.2f}; "
        f"the choice of prompts alone moves some share by {halves.level:.2f}."
    )


def _weights(rows: Mapping[str, Row]) -> Iterator[str]:
    known = {name: row for name, row in rows.items() if row["lost"] == row["lost"]}
    if known:
        each = listed([f"{name} ({_short(row)})" for name, row in known.items()])
        yield f"By their weights, without what they only pass on: {each}."
    if unknown := [name for name in rows if name not in known]:
        yield (
            f"The weights of {listed(unknown)} cannot be told from those of other heads of their "
            "layers, which share norms of q and k."
        )


def _whole(carried: Carried) -> Iterator[str]:
    parts = _rows(carried.parts, "part")
    each = "; ".join(f"{name} {_long(parts[name])}" for name in PARTS)
    yield f"Whole parts of one model in the other: {each}."


def _control(level: ControlLevel, shift: Shift) -> Iterator[str]:
    own, carried = level.own.carried, shift.carried
    yield (
        f"The control's policy differs from the base by {level.own.divergence.mean:.3g} nats a "
        f"token on its own texts, this one by {shift.divergence.mean:.3g} on its."
    )
    if own is not None and carried is not None:
        yield (
            f"Where the control prefers another token than the base, at {own.places.count} places, "
            f"it does by {_of(own.behaviour)} logits."
        )
    if level.moved is None or carried is None:
        return
    yield f"At this model's places the control shows {_of(level.moved)} of its behaviour."
    names = beyond(level, carried)
    more = listed(names) if names else "no node for sure"
    yield f"More than the control's node does there carries: {more}."


def _shown(carried: Carried, level: ControlLevel | None) -> pd.DataFrame:
    """The nodes that come out and the parts that are no layer's, as text."""
    nodes, parts = _rows(carried.nodes, "node"), _rows(carried.parts, "part")
    weights = _rows(carried.by_weights, "part")
    control = None if level is None else _rows(level.nodes, "node")
    names = [*carried.carriers, *parts]
    table = []
    for name in names:
        row = nodes.get(name) or parts[name]
        cells = {"node": name, **{way: str(_figure(row, way)) for way in WAYS}}
        cells |= {f"{way} by weights": _cell(weights, name, way) for way in WAYS}
        if control is not None:
            cells |= {f"{way} by control's": _cell(control, name, way) for way in WAYS}
        table.append(cells)
    return pd.DataFrame(table)


def _rows(table: pd.DataFrame, column: str) -> dict[str, Row]:
    """The rows of an `effect_table` by the name in a column."""
    rows = table.to_dict("records")
    return {str(row[column]): row for row in rows}  # type: ignore[misc]  # to_dict's keys


def _cell(rows: Mapping[str, Row], name: str, way: str) -> str:
    return _number(rows[name][f"{way}_share"]) if name in rows else ""


def _short(row: Row) -> str:
    return ", ".join(f"{way} {_number(row[f'{way}_share'])}" for way in WAYS)


def _long(row: Row) -> str:
    return ", ".join(f"{way} {_figure(row, way)}" for way in WAYS)


def _figure(row: Row, way: str) -> Figure:
    return Figure(*(row[f"{way}_share{end}"] for end in ("", "_low", "_high")))


def _of(interval: Interval) -> Figure:
    return Figure(*(float(end) for end in vars(interval).values()))


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"
