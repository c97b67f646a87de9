"""What of two models' difference on each other's openings is the weights' and what the prompt's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from tracking.attribution.metrics import kl
from tracking.comparison.party import Comparison, Party
from tracking.comparison.prompts.breadth import shared_resamples
from tracking.comparison.prompts.openings import swapped
from tracking.comparison.prompts.two_by_two import (
    Cell,
    Emergence,
    Kept,
    emergence,
    two_by_two,
)
from tracking.comparison.section import Section
from tracking.errors import BadInput
from tracking.ledger.record import Analysis
from tracking.model.decoder import Decoder
from tracking.model.ends import AllEnds
from tracking.nodes.effects import node_effects
from tracking.timeline.shares import Shares
from tracking.timeline.summary import Figure, counted, listed

FACTORS = {  # factor -> what it is of
    "weights": "with the weights, whichever opening is clean",
    "opening": "with the opening that is clean, whichever weights read it",
    "interaction": "with the weights more under one opening than under the other",
}


def opening_section(comparison: Comparison) -> Section:
    """The 2 x 2 of weights and opening, of two parties on `opening` pairs whose clean side has the
    first one's opening; and how many of the paper's emergent nodes are left on fixed pairs.

    By the logit difference effects are those of the records: with clean and corrupted exchanged,
    what a node restores is what it loses, so each record holds both of its model's cells. By the
    paper's metric, the KL to the clean output, they are measured here, where weights are there.
    """
    one, other = comparison.parties
    analyses = comparison.analyses("opening")
    weights = shared_resamples(analyses)
    absent = [name for name, each in analyses.items() if not Shares.of(each).there]
    if absent:
        none = f"{' and '.join(absent)} does not go on as an opening begins: no 2 x 2."
        return Section("Weights and opening", [none])
    measured = _measured(analyses)
    nodes = [n for n, known in zip(one.record.graph.nodes, measured.tolist(), strict=True) if known]
    by_metric = {"logit difference": [c for a in analyses.values() for c in _cells(a, measured)]}
    if one.load and other.load:
        by_metric["KL"] = [c for p in (one, other) for c in _kl_cells(p, measured, comparison)]
    tables, emergent = {}, []
    sentences = [f"A is {one.name}, B {other.name}, on {weights.shape[1]} problems."]
    for metric, cells in by_metric.items():
        judged = comparison.thresholds
        table = two_by_two(cells, nodes, weights, judged.share, judged.error)
        emerged = emergence(cells, weights, judged.share)
        tables[metric] = table.assign(metric=metric)
        emergent.append(emergent_table(emerged, nodes).assign(metric=metric))
        of_metric = [*_factors(table), *_kept(emerged, nodes, judged.share)]
        sentences += [f"By {metric}, {sentence}" for sentence in of_metric]
    joined = {"two_by_two": pd.concat(tables.values()), "emergent": pd.concat(emergent)}
    shown = _shown(tables["logit difference"])
    return Section("Weights and opening", sentences, joined, shown)


def emergent_table(emerged: Emergence, nodes: Sequence[str]) -> pd.DataFrame:
    """A row a node: whether it is emergent by the swapped design, and on either fixed pairs."""
    return pd.DataFrame(
        {
            "node": nodes,
            "swapped": emerged.swapped.tolist(),
            "fixed_a": emerged.fixed_a.tolist(),
            "fixed_b": emerged.fixed_b.tolist(),
        }
    )


def _measured(analyses: Mapping[str, Analysis]) -> Tensor:
    """BoolTensor [node]: measured in all."""
    each = [one.nodes.measured for one in analyses.values()]
    if not (measured := torch.stack(each).all(0)).any():
        raise BadInput("no node was measured in both models: no 2 x 2 of weights and opening")
    return measured


def _cells(analysis: Analysis, measured: Tensor) -> tuple[Cell, Cell]:
    """Of one model: with the first opening as the clean one, and with the second."""
    behaviour = analysis.behaviour.clean - analysis.behaviour.corrupted
    nodes = analysis.nodes
    return Cell(nodes.corrupt[:, measured], behaviour), Cell(nodes.restore[:, measured], behaviour)


def _kl_cells(party: Party, measured: Tensor, comparison: Comparison) -> Iterator[Cell]:
    """The same by the KL to the clean output, in nats, each cell by passes of its own."""
    assert party.load is not None
    decoder, pairs = Decoder.of(party.load()), party.pairs["opening"]
    size = min(comparison.batch_size, len(pairs))
    for some in (pairs, swapped(pairs)):
        effects = node_effects(AllEnds.of(decoder, some, size), measured, kl)
        yield Cell(effects.corrupt[:, measured], effects.behaviour)


def _factors(table: pd.DataFrame) -> list[str]:
    sentences = []
    for factor, words in FACTORS.items():
        rows = table[table[f"{factor}_surely"]]
        rows = rows.loc[rows[factor].abs().sort_values(ascending=False).index]
        each = [f"{row['node']} by {_figure(row, factor)}" for _, row in rows.iterrows()]
        count = f"{counted(list(rows['node']))} differ" if each else "no node differs"
        sentences.append(f"of {len(table)} {count} {words}{_listed(each)}")
    return sentences


def _kept(emerged: Emergence, nodes: Sequence[str], least: float) -> list[str]:
    names = [n for n, is_one in zip(nodes, emerged.swapped.tolist(), strict=True) if is_one]
    if not names:
        return [
            "no node is emergent by the swapped design (each model with its own opening as clean): "
            f"none is below {least:g} in A and not in B."
        ]
    again = _share(emerged.null)
    return [
        f"{counted(names)} {'is' if len(names) == 1 else 'are'} emergent by the swapped design "
        f"(each model with its own opening as clean){_listed(names)}",
        f"on fixed pairs {_share(emerged.kept_a)} of them are emergent too with A's opening as "
        f"clean, {_share(emerged.kept_b)} with B's, {_share(emerged.kept_both)} with either, as "
        f"what weights alone make would be; the swapped design itself calls {again} so again on "
        "resampled problems.",
    ]


def _share(kept: Kept) -> str:
    return str(Figure(**vars(kept)))


def _listed(each: Sequence[str]) -> str:
    return f": {listed(list(each))}." if each else "."


def _figure(row: pd.Series, factor: str) -> Figure:
    return Figure(*(float(row[f"{factor}{end}"]) for end in ("", "_low", "_high")))


def _shown(table: pd.DataFrame) -> pd.DataFrame | None:
    """Nodes that differ with anything."""
    rows = table[table[[f"{factor}_surely" for factor in FACTORS]].any(axis=1)]
    if rows.empty:
        return None
    columns: dict[str, object] = {"node": rows["node"]}
    columns |= {
        name.removeprefix("share_"): [f"{value:.2f}" for value in rows[name]]
        for name in table.columns
        if name.startswith("share_")
    }
    columns |= {f: [str(_figure(row, f)) for _, row in rows.iterrows()] for f in FACTORS}
    return pd.DataFrame(columns)
