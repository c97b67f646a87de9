"""How specific nodes and wires are to a task: those of one contrast, tried on another.

In each model, the heads that are active on one contrast's pairs are corrupted all at once on
another's, and so are the MLPs; circuits ranked by the one's scores are run on the other's. Beside
them, as many random heads or MLPs. The two kinds apart: an MLP of the first layer carries nearly
all of any behaviour, and hides what heads do.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from tracking.attribution import metrics
from tracking.comparison.party import Comparison, Party
from tracking.comparison.section import Section
from tracking.comparison.wiring import findings, ranked, rankings
from tracking.contrast import METRIC, few
from tracking.ledger.record import Analysis
from tracking.model.decoder import Decoder
from tracking.model.ends import MEMORY_GB, AllEnds
from tracking.nodes.effects import corrupt_together
from tracking.stability.bootstrap import Interval, resamples, share
from tracking.timeline.activity import Activity, Thresholds
from tracking.timeline.shares import Shares
from tracking.timeline.summary import Figure

RANDOM = 10  # sets of nodes to compare with


def specificity_section(comparison: Comparison) -> Section:
    """In every model whose weights are there, also what a control ended with, of contrasts that it
    shows; empty of one contrast."""
    nodes, wires, sentences = [], [], []
    for party in comparison.with_control if len(comparison.contrasts) > 1 else ():
        if party.load is None:
            sentences.append(f"{party.name}'s weights are gone: its tasks are not told apart.")
            continue
        tasks = [c for c in comparison.contrasts if Shares.of(party.record.analyses[c]).there]
        if not tasks:
            sentences.append(f"{party.name} shows no behaviour: there are no tasks to tell apart.")
            continue
        nodes.append(node_matrix(party, tasks, comparison.thresholds, comparison.batch_size))
        sentences += [_sentence(row) for _, row in nodes[-1].iterrows()]
        for tried in tasks:
            by = {f"{of!r} pairs": ranked(party, of) for of in tasks if of != tried}
            table = rankings(party, by, tried, comparison.batch_size) if by else pd.DataFrame()
            wires.append(table)
            sentences += findings(table) if len(table) else ()
    named = {"specificity": nodes, "specificity_wiring": wires}
    tables = {name: pd.concat(parts, ignore_index=True) for name, parts in named.items() if parts}
    tables = {name: table for name, table in tables.items() if len(table)}
    shown = _shown(tables["specificity"]) if "specificity" in tables else None
    return Section("Tasks", sentences, tables, shown)


def node_matrix(
    party: Party, tasks: list[str], thresholds: Thresholds, batch_size: int
) -> pd.DataFrame:
    """One row a kind and two contrasts: the share of the behaviour on `tried` that is lost where
    all `nodes` of the kind that are active on `nodes_of` are corrupted at once, with a 95 %
    interval; how many of them are active on both; and the mean and the largest share of as many
    `random` ones, NaN where all of the kind are active."""
    assert party.load is not None
    model, rows = party.load(), []
    active = {c: _active(party.record.analyses[c], thresholds) for c in tasks}
    heads = torch.zeros(len(party.record.graph.nodes), dtype=torch.bool)
    heads = heads.index_fill(0, party.record.graph.node_heads, True)
    for tried in tasks:
        ask = Question.of(model, party, tried, batch_size)
        on_few = ask.on_few
        for (kind, among), of in product((("heads", heads), ("MLPs", ~heads)), tasks):
            nodes = active[of] & among
            lost = ask.lost(nodes[None])
            some_left = bool((among & ~nodes).any())
            drawn = (
                on_few.lost(_random(nodes, among)).mean if some_left else torch.tensor([torch.nan])
            )
            rows.append({"model": party.name, "kind": kind, "nodes_of": of, "tried": tried,
                         "nodes": int(nodes.sum()), "both": int((nodes & active[tried]).sum()),
                         "lost": lost.mean.item(), "low": lost.low.item(),
                         "high": lost.high.item(), "random": float(drawn.mean()),
                         "random_largest": float(drawn.max())})  # fmt: skip
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Question:
    """What a set of nodes carries on some pairs."""

    ends: AllEnds
    behaviour: Tensor  # float32 [pair]
    weights: Tensor  # float32 [resample, pair]

    @classmethod
    def of(cls, model: nn.Module, party: Party, contrast: str, batch_size: int) -> Question:
        """On all pairs of a contrast."""
        analysis, pairs = party.record.analyses[contrast], party.pairs[contrast]
        decoder, behaviour = Decoder.of(model), analysis.behaviour
        ends = AllEnds.of(decoder, pairs, min(batch_size, len(pairs)), MEMORY_GB)
        weights = resamples(len(analysis.stability.entries), len(pairs))
        return cls(ends, behaviour.clean - behaviour.corrupted, weights)

    @property
    def on_few(self) -> Question:
        """On a part of the pairs, for random sets: as many as curves over sizes take."""
        rows = few(len(self.behaviour))
        weights = resamples(len(self.weights), len(rows))
        return Question(self.ends.among(rows), self.behaviour[rows], weights)

    def lost(self, sets: Tensor) -> Interval:
        """[set]: the share of the behaviour lost with all nodes of one of `sets`, BoolTensor
        [set, node], corrupted."""
        corrupt = corrupt_together(self.ends, sets, metrics.resolve(METRIC))
        return share(corrupt, self.behaviour, self.weights)


def _active(analysis: Analysis, thresholds: Thresholds) -> Tensor:
    """BoolTensor [node]."""
    return torch.from_numpy(Activity.judged(Shares.of(analysis), thresholds.share).active)


def _random(nodes: Tensor, among: Tensor) -> Tensor:
    """BoolTensor [set, node]: as many nodes as `nodes`, drawn `among` some, by a fixed seed."""
    generator, places, sets = torch.Generator().manual_seed(0), among.nonzero()[:, 0], []
    for _ in range(RANDOM):
        drawn = places[torch.randperm(len(places), generator=generator)[: int(nodes.sum())]]
        sets.append(torch.zeros_like(nodes).index_fill(0, drawn, True))
    return torch.stack(sets)


def _sentence(row: pd.Series) -> str:
    size = Figure(row["lost"], row["low"], row["high"])
    whose = f"{row['nodes']} {row['kind']} active on them"
    if row["nodes_of"] != row["tried"]:
        whose = (
            f"{row['nodes']} {row['kind']} active on {row['nodes_of']!r} ({row['both']} on both)"
        )
    if not row["nodes"]:
        return f"In {row['model']} no {row['kind']} are active on {row['nodes_of']!r} pairs."
    begin = (
        f"In {row['model']} the behaviour on {row['tried']!r} pairs loses {size} with the {whose} "
        "corrupted"
    )
    if np.isnan(row["random"]):
        return f"{begin}: they are all there are, so there is nothing to compare with."
    word = "more than" if row["low"] > row["random_largest"] else "not more than"
    return (
        f"{begin}: {word} any of {RANDOM} random sets ({row['random']:.2f} on average, at most "
        f"{row['random_largest']:.2f})."
    )


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """A row a model, kind and contrast whose nodes are taken; a column a contrast that they are
    tried on."""
    places = ["model", "kind", "nodes_of"]
    cells = table.assign(
        cell=[str(Figure(*ends)) for ends in table[["lost", "low", "high"]].to_numpy(float)]
    )
    wide = cells.pivot(index=places, columns="tried", values="cell")
    rows = list(table[places].drop_duplicates().itertuples(index=False, name=None))
    return wide.loc[rows].reset_index().rename(columns={"nodes_of": "active on"})
