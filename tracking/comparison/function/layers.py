"""In which layers the behaviour is carried: a profile that needs no node's name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

from tracking.comparison.party import Comparison
from tracking.comparison.section import Section
from tracking.ledger.record import Analysis
from tracking.model.graph import Graph
from tracking.stability.bootstrap import ends
from tracking.stability.changes import change_p, discoveries
from tracking.timeline.activity import Activity, Thresholds
from tracking.timeline.shares import Shares
from tracking.timeline.summary import Figure

KINDS = ("heads", "MLPs")
LEAST = 0.05  # of the behaviour, by all nodes of a kind: less has no depth


def layers_section(comparison: Comparison) -> Section:
    """Profiles and depths of all models that show the behaviour, whatever their base; beside what
    a control ended with, and by how much deeper that is than what it began with."""
    profiles, depths, sentences = [], [], []
    for contrast in comparison.contrasts:
        analyses = {one.name: one.record.analyses[contrast] for one in comparison.with_control}
        graphs = {one.name: one.record.graph for one in comparison.with_control}
        profiles.append(profile_table(graphs, analyses, comparison.thresholds))
        depths.append(_depths_of(comparison, contrast))
        for table in (profiles[-1], depths[-1]):
            table.insert(0, "contrast", contrast)
        sentences += [_sentence(row) for _, row in depths[-1].iterrows()]
        if comparison.control:
            levels = _depths_of(comparison.control, contrast)
            named = levels[["kind", "difference"]].rename(columns={"difference": "control"})
            depths[-1] = depths[-1].merge(named, on="kind", how="left")
            sentences += [_controlled(contrast, row) for _, row in levels.iterrows()]
    tables = {"layers": pd.concat(profiles), "depths": pd.concat(depths)}
    return Section("Layers", sentences, tables, _shown(tables["layers"]))


def _depths_of(comparison: Comparison, contrast: str) -> pd.DataFrame:
    graphs = {party.name: party.record.graph for party in comparison.parties}
    return depth_table(graphs, comparison.analyses(contrast), comparison.thresholds.error)


def profile_table(
    graphs: Mapping[str, Graph], analyses: Mapping[str, Analysis], thresholds: Thresholds
) -> pd.DataFrame:
    """One row a model and layer: how many `heads` are active and the sum of the shares that its
    heads lose, each corrupted alone, with a 95 % interval; the same of its MLP."""
    parts = []
    for name, analysis in analyses.items():
        shares, shape = Shares.of(analysis), (graphs[name].n_layers, -1)
        active = Activity.judged(shares, thresholds.share).active.reshape(shape)
        draws = shares.draws[:, 0].reshape(len(shares.draws), *shape)  # [resample, layer, node]
        values = shares.value[0].reshape(shape)
        columns: dict[str, np.ndarray] = {"layer": np.arange(len(values))}
        for kind, where in zip(KINDS, (slice(None, -1), slice(-1, None)), strict=True):
            low, high = _ends(draws[..., where].sum(-1), shares.pairs)
            columns[f"{kind}_active"] = active[:, where].sum(1)
            columns[f"{kind}_share"] = values[:, where].sum(1)
            columns[f"{kind}_low"], columns[f"{kind}_high"] = low, high
        parts.append(pd.DataFrame(columns).assign(model=name))
    return pd.concat(parts, ignore_index=True)


def depth_table(
    graphs: Mapping[str, Graph], analyses: Mapping[str, Analysis], error: float
) -> pd.DataFrame:
    """One row a kind of node and every two models whose nodes surely carry `LEAST`: the mean depth
    (0 in the first layer, 1 in the last) of what it carries, weighted by the shares that nodes
    lose, in both models, and the paired difference with a 95 % interval, p, and whether it
    `differs` (Benjamini and Hochberg)."""
    shares = {name: Shares.of(one) for name, one in analyses.items()}
    there = [name for name, one in shares.items() if one.there]
    rows = []
    for kind in KINDS:
        carrying = [name for name in there if _carry(graphs[name], shares[name], kind)]
        depths = {name: _depths(graphs[name], shares[name], kind) for name in carrying}
        for place, against in enumerate(carrying):
            for name in carrying[place + 1 :]:
                (before, drawn_before), (now, drawn) = depths[against], depths[name]
                count = min(len(drawn), len(drawn_before))
                low, high = _ends(drawn[:count] - drawn_before[:count], shares[name].pairs)
                p = change_p(drawn[:count], drawn_before[:count], shares[name].pairs)
                rows.append({"kind": kind, "model": name, "against": against, "depth": now,
                             "depth_against": before, "difference": now - before,
                             "low": float(low), "high": float(high), "p": float(p)})  # fmt: skip
    columns = ["kind", "model", "against", "depth", "depth_against", "difference", "low", "high"]
    table = pd.DataFrame(rows, columns=[*columns, "p"])
    return table.assign(differs=discoveries(table["p"].to_numpy(float), error))


def _carry(graph: Graph, shares: Shares, kind: str) -> bool:
    """Whether nodes of the kind surely carry enough to have a depth."""
    chosen = _chosen(graph, kind)
    total = np.clip(np.nan_to_num(shares.draws[:, 0, chosen]), 0, None).sum(-1)
    return bool(np.quantile(total, 0.025) >= LEAST)


def _chosen(graph: Graph, kind: str) -> np.ndarray:
    heads = np.array(["H" in node for node in graph.nodes])
    return heads == (kind == "heads")


def _depths(graph: Graph, shares: Shares, kind: str) -> tuple[float, np.ndarray]:
    """Of all pairs, and in every resample; a node that works against the behaviour carries none."""
    chosen = _chosen(graph, kind)
    layers = np.repeat(np.arange(graph.n_layers), graph.n_heads + 1) / max(graph.n_layers - 1, 1)

    def depth(of: np.ndarray) -> np.ndarray:
        carried = np.clip(np.nan_to_num(of[..., chosen]), 0, None)
        total = np.maximum(carried.sum(-1), 1e-9)
        return (carried * layers[chosen]).sum(-1) / total

    return float(depth(shares.value[0])), depth(shares.draws[:, 0])


def _ends(draws: np.ndarray, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    tensor = torch.from_numpy(np.ascontiguousarray(draws))
    low, high = ends(tensor, torch.full(tensor.shape[1:], pairs))
    return low.numpy(), high.numpy()


def _sentence(row: pd.Series) -> str:
    size = Figure(row["difference"], row["low"], row["high"])
    levels = ((row["depth_against"], row["against"]), (row["depth"], row["model"]))
    both = " and ".join(f"{depth:.2f} in {name}" for depth, name in levels)
    if not row["differs"]:
        verdict = f"a difference is not shown ({size})"
    elif row["difference"] > 0:
        verdict = f"deeper in {row['model']} by {size}"
    else:
        verdict = f"deeper in {row['against']} by {size.turned}"
    return (
        f"On {row['contrast']!r} pairs the mean depth of what {row['kind']} carry is {both}: "
        f"{verdict}."
    )


def _controlled(contrast: str, row: pd.Series) -> str:
    size = Figure(row["difference"], row["low"], row["high"])
    kind = row["kind"]
    return f"On {contrast!r} pairs the mean depth of {kind} moves by {size} in a control run."


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """A row a layer, heads' and MLP's shares of each model."""
    cells = table.assign(
        cell=[
            f"{row['heads_active']}h {row['heads_share']:.2f}, mlp {row['MLPs_share']:.2f}"
            for _, row in table.iterrows()
        ]
    )
    order = list(dict.fromkeys(table["model"]))
    wide = cells.pivot(index=["contrast", "layer"], columns="model", values="cell")
    return wide[order].fillna("").reset_index().rename(columns={"contrast": "pairs"})
