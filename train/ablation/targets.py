"""The sets of nodes that are asked for: by their state in a run's timeline, or by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from tracking.errors import BadInput
from tracking.model.graph import Graph
from train.run.console import say

STATES = {  # of heads, at the last checkpoint, by the word that asks for them
    "active": lambda rows: rows["active"],
    "base": lambda rows: rows["state"] == "retained",
    "recruited": lambda rows: rows["active"] & (rows["origin"] == "recruited"),
    "survivors": lambda rows: rows["active"] & rows["cohort"].notna(),
    "faded": lambda rows: rows["state"] == "faded",
}


@dataclass(frozen=True)
class Target:
    """Nodes that are switched off together."""

    name: str  # the word that asked for them, or their names
    nodes: tuple[str, ...]

    @property
    def heads(self) -> tuple[str, ...]:
        """Those that are heads, which have matched controls."""
        return tuple(node for node in self.nodes if "H" in node)


def targets(asked: Sequence[str], graph: Graph, rows: pd.DataFrame | None = None) -> list[Target]:
    """The sets of `asked`: each a word of `STATES`, or names with commas between (`L5H1,M3`).

    Equal sets are one, under the first's name, which is said.

    `rows` are the timeline's nodes at the last checkpoint, on one contrast; None for a model
    without a run. Raises `BadInput` for an unknown word or node, a word without a run, and a word
    that no head answers to.
    """
    each = [_target(word, graph, rows) for word in asked]
    if not each:
        raise BadInput(f"no heads are asked for; {_known()}")
    first: dict[tuple[str, ...], Target] = {}
    for target in each:
        name = first.setdefault(target.nodes, target).name
        if name != target.name:
            say(f"note       {target.name} are the nodes of {name}, which stands for both")
    return list(first.values())


def _target(word: str, graph: Graph, rows: pd.DataFrame | None) -> Target:
    if word not in STATES:
        names = [name.strip() for name in word.split(",")]
        for name in names:
            if name not in graph.nodes:
                raise BadInput(f"{name!r} is no head or MLP of this model; {_known()}")
        places = sorted({graph.nodes.index(name) for name in names})
        return Target(word, tuple(graph.nodes[place] for place in places))
    if rows is None:
        raise BadInput(f"heads {word!r}: only a run with records knows them; name them, L5H1,L7H2")
    heads = rows[rows["kind"] == "head"]
    chosen = tuple(heads["node"][STATES[word](heads)])
    if not chosen:
        active = ", ".join(heads["node"][heads["active"]]) or "none"
        raise BadInput(f"heads {word!r}: there are none at the last checkpoint; active: {active}")
    return Target(word, chosen)


def _known() -> str:
    return f"one of {', '.join(STATES)}, or names like L5H1,M3"
