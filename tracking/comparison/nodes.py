"""Which heads and MLPs carry the behaviour in all models, in some, in one only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from tracking.comparison.party import Comparison, Party
from tracking.comparison.section import Section
from tracking.comparison.shares import Between, Compared, Null, null
from tracking.model.graph import Graph
from tracking.timeline.shares import DIRECTIONS
from tracking.timeline.summary import Figure, counted, listed


def nodes_section(comparison: Comparison) -> Section:
    """On every contrast, within every family of models of one base."""
    shares, between, nulls, sentences, shown = [], [], [], [], []
    for contrast in comparison.contrasts:
        analyses = comparison.analyses(contrast)
        levels = {name: null(one, comparison.thresholds) for name, one in analyses.items()}
        nulls += [{"contrast": contrast, "model": m, **vars(n)} for m, n in levels.items()]
        for family in (one for one in comparison.families if len(one) > 1):
            of_family = {party.name: analyses[party.name] for party in family}
            compared = Compared.of(of_family, comparison.thresholds)
            graph = family[0].record.graph
            shares.append(share_table(graph, compared).assign(contrast=contrast))
            between.append(difference_table(graph, compared).assign(contrast=contrast))
            mine = findings(graph, compared, levels)
            beside = comparison.control
            if beside and beside.parties[0].record.graph == graph:
                control = control_of(beside, contrast)
                between[-1]["control"] = level(control)
                mine.append(_controlled(graph, compared, control))
            sentences += [f"On {contrast!r} pairs {one}" for one in mine]
            shown.append(_shown(contrast, graph, compared))
    if alone := _apart(comparison.families):
        sentences.append(alone)
    tables = {"nodes": shares, "node_differences": between, "node_nulls": [pd.DataFrame(nulls)]}
    return Section(
        "Heads and MLPs",
        sentences,
        {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items() if parts},
        pd.concat(shown) if shown else None,
    )


def share_table(graph: Graph, compared: Compared) -> pd.DataFrame:
    """One row a node and model: both shares with their 95 % intervals, whether it is `active`,
    `inactive` or `undecided` there (`absent` where the model does not show the behaviour), and the
    `word` for all models at once."""
    parts = []
    for name, one in compared.shares.items():
        low, high = one.interval
        ends = {"": one.value, "_low": low, "_high": high}
        columns = {
            f"{way}{end}": values[place]
            for place, way in enumerate(DIRECTIONS)
            for end, values in ends.items()
        }
        judged = np.full(len(graph.nodes), "absent")
        if name in compared.active:
            mine = compared.active[name]
            judged = np.select([mine.active, mine.inactive], ["active", "inactive"], "undecided")
        parts.append(
            pd.DataFrame(
                {"model": name, "node": graph.nodes, "state": judged, "word": compared.words,
                 **columns}
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def difference_table(graph: Graph, compared: Compared) -> pd.DataFrame:
    """One row a node, direction and every two models that show the behaviour: the share in `model`
    less that in `against`, with the paired 95 % interval, p, and whether it `differs`."""
    parts = [
        pd.DataFrame(
            {"model": name, "against": against, "node": graph.nodes, "direction": way,
             **{column: getattr(one, column)[place] for column in
                ("value", "low", "high", "p", "differs")}}
        )
        for (against, name), one in compared.between.items()
        for place, way in enumerate(DIRECTIONS)
    ]  # fmt: skip
    if not parts:
        return pd.DataFrame()
    return pd.concat(parts, ignore_index=True).rename(columns={"value": "difference"})


def findings(graph: Graph, compared: Compared, levels: Mapping[str, Null]) -> list[str]:
    """A sentence for the nodes active in all models, one for those of one model only, one for other
    shares that differ, and one for what halves of the pairs make of one model."""
    out = []
    if compared.absent:
        out.append(f"{_and(compared.absent)} {_has(compared.absent)} no behaviour to share out.")
    if len(compared.active) < 2:
        return [*out, "nodes cannot be compared: fewer than two models show the behaviour."]
    names = list(compared.active)
    everywhere = "both" if len(names) == 2 else f"all {len(names)}"
    out.append(f"active in {everywhere}: {_nodes(_of(graph, compared, 'all'))}.")
    if only := _of(graph, compared, "only"):
        each = "; ".join(_only(graph, compared, node) for node in only)
        out.append(f"active in one only: {each}.")
    else:
        out.append("no node is shown to be active in one only.")
    if some := _of(graph, compared, "some"):
        where = "; ".join(f"{n} in {_and(compared.where[_at(graph, n)])}" for n in some)
        out.append(f"in some: {where}.")
    if unsure := _of(graph, compared, "undecided"):
        out.append(f"of {_nodes(unsure)} it is undecided.")
    out += [_moved(graph, couple, one, compared) for couple, one in compared.between.items()]
    halves = ", ".join(
        f"{name} {levels[name].differing:.2f} (largest {levels[name].largest:.2f})"
        for name in names
    )
    out.append(f"two halves of the pairs on one model differ in so many nodes by chance: {halves}.")
    return out


def control_of(control: Comparison, contrast: str) -> Compared:
    """The first and the last of a run in which nothing was taught."""
    return Compared.of(control.analyses(contrast), control.thresholds)


def level(control: Compared) -> float:
    """The largest difference of any node's share in a control run; NaN without a behaviour."""
    sizes = [np.abs(np.nan_to_num(one.value)).max() for one in control.between.values()]
    return float(max(sizes, default=np.nan))


def _controlled(graph: Graph, compared: Compared, control: Compared) -> str:
    """What the control does, and which differences are larger."""
    largest = level(control)
    if np.isnan(largest):
        return "a control run shows no behaviour at one of its ends: it gives no level."
    (moved,) = control.between.values()
    differ = [n for n, one in zip(graph.nodes, moved.nodes, strict=True) if one]
    beyond = {
        node: abs(one.at(place)[0])
        for one in compared.between.values()
        for place, node in enumerate(graph.nodes)
        if one.nodes[place] and abs(one.at(place)[0]) > largest
    }
    names = sorted(beyond, key=lambda node: -beyond[node])
    return (
        f"in a control run shares of {_nodes(differ)} differ between its ends, none by more than "
        f"{largest:.2f}, and {_nodes(_of(graph, control, 'only'))} active at one end only; "
        f"differences beyond that are of {_nodes(names)}."
    )


def _moved(graph: Graph, couple: tuple[str, str], one: Between, compared: Compared) -> str:
    """The shares that differ between two models in which the node is active in both, or in
    neither for sure."""
    against, name = couple
    moved = [
        node
        for place, node in enumerate(graph.nodes)
        if one.nodes[place] and compared.words[place] not in ("only", "some")
    ]
    if not moved:
        return f"no other share is shown to differ between {against} and {name}."
    moved.sort(key=lambda node: -abs(one.at(_at(graph, node))[0]))
    each = listed([f"{n} by {Figure(*one.at(_at(graph, n)))}" for n in moved])
    return f"other shares in {name} less those in {against}: {each}."


def _only(graph: Graph, compared: Compared, node: str) -> str:
    """`M3 in grpo (0.42 against 0.00 in base: 0.42 (0.38 to 0.45))`, for every other model."""
    place, out = _at(graph, node), []
    (name,) = compared.where[place]
    for couple, one in compared.between.items():
        if name not in couple:
            continue
        other = couple[0] if couple[1] == name else couple[1]
        way, size = one.larger[place], Figure(*one.at(place))
        values = [compared.shares[m].value[way, place] for m in (name, other)]
        size = size if couple[1] == name else size.turned
        out.append(f"{values[0]:.2f} against {values[1]:.2f} in {other}: {size}")
    return f"{node} in {name} ({'; '.join(out)})"


def _apart(families: Sequence[Sequence[Party]]) -> str:
    """Where there are several bases."""
    if len(families) == 1:
        return ""
    groups = " | ".join(_and([party.name for party in family]) for family in families)
    return f"Nodes are compared by name only within one base: {groups}."


def _shown(contrast: str, graph: Graph, compared: Compared) -> pd.DataFrame:
    """The nodes that are active anywhere, or differ."""
    rows = []
    for place, node in enumerate(graph.nodes):
        differs = any(one.nodes[place] for one in compared.between.values())
        if not (compared.where[place] or differs):
            continue
        word, where = compared.words[place], compared.where[place]
        rows.append(
            {"pairs": contrast, "node": node,
             **{name: _share(compared, name, place) for name in compared.shares},
             "active": f"{word} {where[0]}" if word == "only" else word,
             "differs": "yes" if differs else ""}
        )  # fmt: skip
    return pd.DataFrame(rows)


def _share(compared: Compared, name: str, place: int) -> str:
    shares = compared.shares[name]
    if not shares.there:
        return "-"
    way = shares.larger[place]
    low, high = (end[way, place] for end in shares.interval)
    return f"{shares.value[way, place]:.2f}±{(high - low) / 2:.2f}"


def _of(graph: Graph, compared: Compared, word: str) -> list[str]:
    return [n for n, mine in zip(graph.nodes, compared.words, strict=True) if mine == word]


def _at(graph: Graph, node: str) -> int:
    return graph.nodes.index(node)


def _nodes(names: Sequence[str]) -> str:
    return f"{counted(names)} ({listed(names)})" if names else "no node"


def _and(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} and {names[-1]}"


def _has(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"
