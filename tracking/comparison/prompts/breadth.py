"""How broadly a behaviour is carried: the fewest top edges, and the heads on them, that reach the
same faithfulness in several conditions (two modes of thinking, say) on the same problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import pandas as pd
import torch
from torch import Tensor

from tracking.circuits.curve import counts
from tracking.circuits.entry import entry
from tracking.circuits.faithfulness import Experiment
from tracking.circuits.top_edges import Selection, by_count
from tracking.comparison.party import Comparison, Party
from tracking.comparison.prompts.modes import CONTROL, OFF, ON
from tracking.comparison.section import Section
from tracking.comparison.wiring import ranked
from tracking.contrast import METRIC
from tracking.ledger.record import Analysis
from tracking.stability.bootstrap import resamples
from tracking.timeline.shares import Shares
from tracking.timeline.summary import Figure

LEAST = 1.1  # times the edges: of circuits nearer in size neither is called broader
FAITHFUL = 0.8  # where a run does not say how faithful its circuits are to be


@dataclass(frozen=True)
class Carried:
    """What circuits of the top edges carry in one condition, over sizes."""

    counts: Sequence[int]  # edges, rising
    carried: Tensor  # float32 [size, pair], of the behaviour
    behaviour: Tensor  # float32 [pair]
    entries: Tensor  # LongTensor [head], the fewest top edges with which a head is in the circuit


def breadth(conditions: Mapping[str, Carried], wanted: float, weights: Tensor) -> pd.DataFrame:
    """A row for each condition: the fewest `edges` whose circuit is `wanted` faithful, and the
    `heads` that are in it, both with their 95 % interval over problems by `weights` [resample,
    pair]. Between two sizes faithfulness is taken to rise straight in the logarithm of the edges;
    infinite where no size reaches it, NaN where there is no behaviour."""
    rows = []
    for name, one in conditions.items():
        values, draws = _edges_and_heads(one, wanted, weights)
        rows.append({"condition": name, **_figures(values, draws)})
    return pd.DataFrame(rows)


def breadth_ratios(
    conditions: Mapping[str, Carried], wanted: float, weights: Tensor
) -> pd.DataFrame:
    """A row for every two conditions: how many times the edges, and the heads, of `against` the
    `condition` takes to the same faithfulness, with the 95 % interval over the same problems, and
    whether it is surely `broader` or `narrower` by its edges, and by a tenth at least: rankings are
    taken as they are, and other pairs would rank somewhat otherwise."""
    each = {name: _edges_and_heads(one, wanted, weights) for name, one in conditions.items()}
    rows = []
    for against, name in combinations(conditions, 2):
        (before, draws_before), (after, draws_after) = each[against], each[name]
        row = _figures(after / before, draws_after / draws_before)
        rows.append(
            {"condition": name, "against": against, **row,
             "broader": row["edges_low"] > 1 and row["edges"] >= LEAST,
             "narrower": row["edges_high"] < 1 and row["edges"] <= 1 / LEAST}
        )  # fmt: skip
    return pd.DataFrame(rows)


def breadth_section(comparison: Comparison) -> Section:
    """The fewest edges and heads that reach the same faithfulness in every party, which may be one
    model in several modes: their pairs are of the same problems."""
    each, ratios, sentences = [], [], []
    for contrast in comparison.contrasts:
        parties = [party for party in comparison.parties if party.load is not None]
        wanted = _wanted(parties)
        analyses = {party.name: party.record.analyses[contrast] for party in parties}
        weights = shared_resamples(analyses)
        there = [party for party in parties if Shares.of(analyses[party.name]).there]
        if len(there) < 2:
            sentences.append(f"On {contrast!r} pairs fewer than two have the behaviour.")
            continue
        curves = {party.name: carried(party, contrast, comparison.batch_size) for party in there}
        each.append(breadth(curves, wanted, weights).assign(contrast=contrast))
        ratios.append(breadth_ratios(curves, wanted, weights).assign(contrast=contrast))
        sentences += [_broader(contrast, wanted, each[-1], row) for _, row in ratios[-1].iterrows()]
        sentences += _put_down(contrast, ratios[-1])
    tables = {"breadth": each, "breadth_ratios": ratios}
    joined = {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items() if parts}
    return Section("Breadth at equal faithfulness", sentences, joined)


def carried(party: Party, contrast: str, batch_size: int) -> Carried:
    """What circuits by the party's own ranking carry on its pairs, over sizes."""
    assert party.load is not None
    pairs, scores = party.pairs[contrast], ranked(party, contrast)
    tried = Experiment.of(party.load(), pairs, METRIC, min(batch_size, len(pairs)))
    sizes = counts(tried.graph)
    runs = tried.run([by_count(tried.graph, scores, size) for size in sizes])
    heads = entry(tried.graph, scores).nodes[tried.graph.node_heads]
    # the metric is a loss: what is carried of the behaviour is what it falls by
    return Carried(sizes, runs.corrupted - runs.patched, runs.corrupted - runs.clean, heads)


def _wanted(parties: Sequence[Party]) -> float:
    """The faithfulness that the records' circuits were to reach."""
    chosen = Selection.parse(str(parties[0].record.settings.get("select", f"share={FAITHFUL}")))
    return chosen.amount if chosen.kind == "faithfulness" else FAITHFUL


def shared_resamples(analyses: Mapping[str, Analysis]) -> Tensor:
    """Float32 [resample, pair]: those that all analyses have, of the same problems."""
    count = min(len(one.stability.entries) for one in analyses.values())
    return resamples(count, len(next(iter(analyses.values())).behaviour.clean))


def fewest(faithfulness: Tensor, counts: Sequence[int], wanted: float) -> Tensor:
    """Float [...]: the fewest edges that are `wanted` faithful, of curves [size, ...] over rising
    `counts`, straight in their logarithm; infinite where none are, NaN where the curve is."""
    sizes = torch.tensor(counts).log()
    reached = faithfulness >= wanted
    first = reached.int().argmax(0)  # [...]
    above = faithfulness.gather(0, first[None])[0]
    before = (first - 1).clamp(min=0)
    below = faithfulness.gather(0, before[None])[0]
    part = ((wanted - below) / (above - below)).nan_to_num(1).clamp(0, 1)
    part = torch.where(first > 0, part, 1.0)
    edges = (sizes[before] + part * (sizes[first] - sizes[before])).exp()
    edges = edges.masked_fill(~reached.any(0), torch.inf)
    return edges.masked_fill(faithfulness.isnan().any(0), torch.nan)


def _edges_and_heads(one: Carried, wanted: float, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Float [2] and [resample, 2]: edges and heads, of all problems and in every resample."""
    pairs = weights.shape[1]
    drawn = torch.cat([torch.full((1, pairs), 1 / pairs), weights])
    behaviour = drawn @ one.behaviour
    curves = one.carried @ drawn.T / behaviour.masked_fill(behaviour <= 0, torch.nan)
    edges = fewest(curves, one.counts, wanted)  # [1 + resample]
    heads = (one.entries[:, None] <= edges).sum(0).float()
    heads = torch.where(edges.isfinite(), heads, edges)
    both = torch.stack([edges, heads], dim=1)
    return both[0], both[1:]


def _figures(values: Tensor, draws: Tensor) -> dict[str, float]:
    """By the names of columns; ends are whole draws, so that infinite ones can be ends."""
    unknown = draws.isnan()  # as wide as can be
    low = draws.masked_fill(unknown, -torch.inf).quantile(0.025, dim=0, interpolation="lower")
    high = draws.masked_fill(unknown, torch.inf).quantile(0.975, dim=0, interpolation="higher")
    columns = {"": values, "_low": low, "_high": high}
    return {
        f"{name}{end}": float(column[place])
        for place, name in enumerate(("edges", "heads"))
        for end, column in columns.items()
    }


def _broader(contrast: str, wanted: float, each: pd.DataFrame, row: pd.Series) -> str:
    by_name = each.set_index("condition")
    levels = [
        f"{by_name.loc[name, 'edges']:.0f} edges with {by_name.loc[name, 'heads']:.0f} heads in "
        f"{name}"
        for name in (row["against"], row["condition"])
    ]
    times, heads = (
        Figure(*(float(row[f"{name}{end}"]) for end in ("", "_low", "_high")))
        for name in ("edges", "heads")
    )
    word = "neither is shown to be broader"
    if row["broader"] or row["narrower"]:
        word = f"{row['condition' if row['broader'] else 'against']} is broader"
    return (
        f"On {contrast!r} pairs a faithfulness of {wanted:g} takes {' and '.join(levels)}: "
        f"{times} times the edges, {heads} times the heads; {word}."
    )


def _put_down(contrast: str, ratios: pd.DataFrame) -> list[str]:
    """What a mode of thinking that is broader is put down to: to thinking where the template's
    control differs from `off` as `on` does. Nothing where neither mode is broader."""
    rows = {(row["against"], row["condition"]): row for row in ratios.to_dict("records")}
    if not {(ON, OFF), (OFF, CONTROL)} <= {*rows}:
        return []
    off, control = rows[ON, OFF], rows[OFF, CONTROL]
    if not (off["broader"] or off["narrower"]):
        return []
    mode = OFF if off["broader"] else ON
    if control["narrower"] if off["broader"] else control["broader"]:
        word, why = "is thinking's", "the template's control differs from off as on does"
    else:
        word = "is not shown to be thinking's"
        why = "the template's control is not shown to differ from off as on does"
    return [f"On {contrast!r} pairs that {mode} is broader {word}: {why}."]
