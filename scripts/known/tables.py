"""The tables of docs/known-circuits.md, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from scripts.known.study import RANDOM_SIZES, Study
from scripts.known.task import HeadClass
from tracking.circuits.curve import SIZES
from tracking.nodes.role_words import Roles
from tracking.stability.bootstrap import Interval, interval, resamples
from tracking.timeline.activity import Thresholds, verdict

TOP_HEADS, TOP_MLPS = 14, 3
NAMED = 6  # heads of a class that a row names


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def number(value: float) -> str:
    """With two digits; nothing is -0.00."""
    return f"{value:.2f}".replace("-0.00", "0.00")


def bounds(value: float, low: float, high: float) -> str:
    return f"{number(value)} ({number(low)} to {number(high)})"


def tried(asked: Sequence[tuple[str, int, float]]) -> str:
    rows = [(name, count, number(right)) for name, count, right in asked]
    return table(("task", "prompts", "top token right"), rows)


def twins(differences: Sequence[tuple[str, int, float]]) -> str:
    rows = [(name, f"{count:,}", f"{worst:.1e}") for name, count, worst in differences]
    return table(("first pair of", "edges", "worst difference over the largest score"), rows)


def tasks(studies: Sequence[Study]) -> str:
    columns = (
        "task", "pairs x tokens", "top token right", "P(right), clean and corrupted",
        "behaviour, logits", "edges for 0.8, twice", "they carry", "the others carry",
        "random edges that carry as much", "heads shared by halves", "verdict",
    )  # fmt: skip
    return table(columns, [_task(study) for study in studies])


def _task(study: Study) -> list[object]:
    pairs, circuit, result = study.task.pairs, study.analysis.circuit, study.analysis.behaviour
    weights = resamples(1000, len(pairs))
    behaviour = interval(study.behaviour[:, None], weights)
    chances = (
        float(chance.mean()) for chance in (result.clean_probability, result.corrupted_probability)
    )
    return [
        study.task.name,
        f"{len(pairs)} x {pairs.clean.shape[1]}",
        number(study.right),
        ", ".join(number(chance) for chance in chances),
        _bounds(behaviour),
        f"{circuit.size:,}",
        number(circuit.faithfulness),
        number(circuit.complement),
        f"{circuit.random_size:,.0f}",
        number(study.analysis.stability.jaccard),
        verdict(study.analysis, study.shares, Thresholds()),
    ]


def curves(studies: Sequence[Study]) -> str:
    """Faithfulness over sizes, of the top edges and of random ones."""
    rows = []
    for study in studies:
        own = [number(value) for value in study.analysis.circuit.curve[:, 1].tolist()]
        drawn = dict(zip(RANDOM_SIZES, study.random.tolist(), strict=True))
        random = [number(drawn[size]) if size in drawn else "" for size in SIZES]
        rows += [[study.task.name, "top", *own], ["", "random", *random]]
    return table(("task", "edges", *(f"{size:.1%}" for size in SIZES)), rows)


def nodes(study: Study) -> str:
    """The heads that matter most, with what both sides say of them."""
    columns = (
        "head", "score", "corrupt", "restore", "END attends to (if corrupted)",
        "writes: right, other", "class by attention", "role",
    )  # fmt: skip
    order = np.argsort(-np.where(study.measured, study.size, 0))[:TOP_HEADS].tolist()
    roles = Roles.of(study.graph.head_names, study.analysis.heads.roles).main
    heads = [
        [
            study.graph.head_names[head],
            number(float(study.score[head])),
            *_shares(study, int(study.graph.node_heads[head])),
            _looks(study, head),
            ", ".join(number(one) for one in study.heads.writes[:, head].tolist()),
            _classes(study, head),
            roles[head],
        ]
        for head in order
    ]
    return table(columns, heads)


def mlps(studies: Sequence[Study]) -> str:
    rows = []
    for study in studies:
        size = np.abs(study.shares.value).max(0) * study.shares.measured
        size[study.graph.node_heads.numpy()] = 0
        names = [
            f"{study.graph.nodes[node]} {_shares(study, node)[0]}, {_shares(study, node)[1]}"
            for node in np.argsort(-size)[:TOP_MLPS].tolist()
        ]
        rows.append([study.task.name, "; ".join(names)])
    return table(("task", "MLPs that matter most: corrupt, restore"), rows)


def classes(study: Study) -> str:
    columns = (
        "class", "by attention", "heads (their corrupt share)", "all at once: corrupt", "restore",
        "sign as in the papers", "matter more than others", "role agrees",
    )  # fmt: skip
    return table(columns, [_class(study, one) for one in study.task.classes])


def _class(study: Study, one: HeadClass) -> list[object]:
    inside = study.members[one.name].nonzero()[:, 0].tolist()
    inside.sort(key=lambda head: -study.size[head])
    named = [f"{study.graph.head_names[head]} {number(study.effects[0][head])}" for head in inside]
    more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
    copies = {1: ", writes for it", -1: ", writes against it", 0: ", does neither"}
    attends = f"{one.query} to {one.key}" + (copies[one.copies] if one.copies is not None else "")
    if not inside:
        return [one.name, attends, "none", "", "", "", "", ""]
    corrupt, restore = study.together[one.name]
    return [
        one.name,
        attends,
        ", ".join(named[:NAMED]) + more,
        _bounds(corrupt),
        _bounds(restore),
        _sign(one, corrupt, restore),
        number(study.separation(one)),
        number(study.role_separation(one)) if one.role else "",
    ]


def _sign(one: HeadClass, *effects: Interval) -> str:
    """Whether the effect is surely of the sign that the papers give it."""
    if not one.sign:
        return "none given"
    low, high = zip(*((float(e.low), float(e.high)) for e in effects), strict=True)
    sure = [np.sign(bottom) for bottom, top in zip(low, high, strict=True) if bottom * top > 0]
    if not sure:
        return "no effect" if max(np.abs([*low, *high])) < Thresholds().share else "not sure"
    return "yes" if all(sign == one.sign for sign in sure) else "**no**"


def wires(study: Study) -> str:
    rows = []
    for wire in study.task.wires:
        count, amount, separated = study.wire(wire)
        target = f"{wire.target}, {wire.read}" if wire.read else wire.target
        cells = [number(amount), number(separated)] if count else ["", ""]
        rows.append([f"{wire.source} -> {target}", count, *cells])
    columns = ("wire", "edges", "their scores over the behaviour", "larger than others of the kind")
    return table(columns, rows)


def strangers(study: Study) -> str:
    """Active heads of no class to which the papers give an effect, and what they read."""
    rows = []
    for head in (study.active & ~study.in_a_class).nonzero()[0].tolist():
        edges = [
            f"{source} to {read} {number(amount)}" for source, read, amount in study.read_by(head)
        ]
        shares = _shares(study, int(study.graph.node_heads[head]))
        rows.append([study.graph.head_names[head], *shares, "; ".join(edges)])
    if not rows:
        return "Every active head is of a class."
    return table(("of no class", "corrupt", "restore", "strongest edges in, over behaviour"), rows)


def agreement(studies: Sequence[Study]) -> str:
    columns = (
        "task", "heads measured", "score and corrupt: size, signed", "score and restore",
        "active heads", "of these of a class", "left out by the screen, active",
    )  # fmt: skip
    rows = []
    for study in studies:
        both = (", ".join(number(one) for one in study.rank_agreement(way)) for way in (0, 1))
        active, sampled = study.active, study.sampled
        rows.append(
            [
                study.task.name,
                int(study.measured.sum()),
                *both,
                int(active.sum()),
                int((active & study.in_a_class).sum()),
                f"{int((active & sampled).sum())} of {int(sampled.sum())}",
            ]
        )
    return table(columns, rows)


def _shares(study: Study, node: int) -> list[str]:
    """Corrupt and restore share of a node, with their intervals."""
    low, high = study.shares.interval
    value = study.shares.value
    return [bounds(value[way][node], low[way][node], high[way][node]) for way in (0, 1)]


def _looks(study: Study, head: int) -> str:
    """Where END looks most, of the positions that have a name."""
    seen = {key: float(study.heads.attention["END", key][head]) for key in study.task.places}
    most = max(seen, key=lambda key: seen[key])
    return f"{most} {seen[most]:.2f} ({float(study.heads.when_corrupted['END', most][head]):.2f})"


def _classes(study: Study, head: int) -> str:
    of = [
        f"{one.name} {float(study.heads.attention[one.query, one.key][head]):.2f}"
        for one in study.task.classes
        if study.members[one.name][head]
    ]
    return ", ".join(of) or "-"


def _bounds(one: Interval) -> str:
    value, low, high = (
        float(torch.as_tensor(end).squeeze()) for end in (one.mean, one.low, one.high)
    )
    return bounds(value, low, high)
