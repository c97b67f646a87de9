"""Wiring between models: each ranking of edges, tried in every other model of the same base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from tracking.circuits.curve import counts
from tracking.circuits.wiring import Wiring, wiring
from tracking.comparison.party import Comparison, Party
from tracking.comparison.section import Section
from tracking.contrast import LARGEST, Ranks, Tried, scored
from tracking.model.decoder import Decoder
from tracking.model.ends import MEMORY_GB, AllEnds
from tracking.settings import Settings
from tracking.stability.bootstrap import resamples
from tracking.timeline.shares import Shares
from tracking.timeline.summary import LACK, PARTLY, SUFFICE, UNTOLD, Figure, wired

WORDS = {  # the gravest first
    LACK: "the wires of {} do not suffice there",
    PARTLY: "the wires of {} carry most of it there, not all",
    UNTOLD: "whether the wires of {} suffice there cannot be told",
    SUFFICE: "the wires of {} suffice there",
}


def wiring_section(comparison: Comparison) -> Section:
    """Every ranking in every other model of its family, and of a control's ends in each other, on
    every contrast."""
    parts, sentences = [], []
    for family in comparison.related:
        if len(family) < 2:
            continue
        for party in family:
            others = [one for one in family if one is not party]
            if party.load is None:
                sentences.append(f"{party.name}'s weights are gone: no ranking is tried in it.")
                continue
            for contrast in comparison.contrasts:
                shown = [one for one in others if _shows(one, contrast)]
                absent = [one.name for one in others if one not in shown]
                sentences += [_no_ranking(name, contrast) for name in absent]
                if not shown:
                    continue
                by = {one.name: ranked(one, contrast) for one in shown}
                table = rankings(party, by, contrast, comparison.batch_size)
                parts.append(table)
                sentences += findings(table)
    if len(comparison.families) > 1:
        sentences.append("Between bases rankings are not tried: an edge's name means another edge.")
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    shown = at_own_sizes(table) if len(table) else None
    return Section("Wiring", sentences, {"wiring": table} if parts else {}, shown)


def _shows(party: Party, contrast: str) -> bool:
    return Shares.of(party.record.analyses[contrast]).there


def _no_ranking(name: str, contrast: str) -> str:
    return f"On {contrast!r} pairs {name} shows no behaviour: its ranking means nothing."


def rankings(
    party: Party, others: Mapping[str, Tensor], contrast: str, batch_size: int
) -> pd.DataFrame:
    """What circuits ranked by `others`' scores [source, target], by their names, carry in this
    party's model, over sizes.

    One row a ranking and size: `model`, `ranked_by`, `edges`; `own`, `other` and `half`, the
    faithfulness of circuits by the model's own ranking, the other's, and its own on the half of the
    pairs that it is not tried on; `kept`, other over own, and `null`, half over own, with paired
    95 % intervals, missing where the own circuit carries too little. The size of the model's own
    circuits and half of it, as `at` says, are tried on all `pairs`, others on a part of them.
    """
    analysis, pairs = party.record.analyses[contrast], party.pairs[contrast]
    decoder = Decoder.of(_loaded(party))
    ends = AllEnds.of(decoder, pairs, min(batch_size, len(pairs)), MEMORY_GB)
    own = _per_pair(ends, party, contrast)
    weights = resamples(len(analysis.stability.entries), len(pairs))
    tried, size = Tried.of(ends, weights), analysis.circuit.size
    at = {size: "size", max(size // 2, 1): "half"}
    graph = tried.whole.graph
    drawn = [n for n in counts(graph) if n <= LARGEST * int(graph.edge_mask.sum()) and n not in at]
    part = own[tried.part_rows]
    rows = []
    for name, scores in others.items():
        place = {"contrast": contrast, "model": party.name, "ranked_by": name}
        whole = wiring(tried.whole, scores, own, sorted(at), weights)
        rows += [
            {**place, "at": at[row["edges"]], "pairs": len(own), **row} for row in _rows(whole)
        ]
        if drawn:
            curve = wiring(tried.part, scores, part, drawn, tried.part_weights)
            rows += [{**place, "at": "", "pairs": len(part), **row} for row in _rows(curve)]
    return pd.DataFrame(rows).sort_values("edges", kind="stable", ignore_index=True)


def _rows(both: Wiring) -> Iterator[dict[str, Any]]:
    """One a size."""
    for place, count in enumerate(both.counts):
        yield {
            "edges": count,
            "own": float(both.own[place]),
            "other": float(both.old[place]),
            "half": float(both.null[place]),
            **{
                f"{kind}{end}": float(getattr(ratio, bound)[place])
                for kind, ratio in (("kept", both.kept), ("null", both.null_kept))
                for end, bound in (("", "value"), ("_low", "low"), ("_high", "high"))
            },
        }


def ranked(party: Party, contrast: str) -> Tensor:
    """Float32 [source, target], the scores that the party's edges are ranked by."""
    scores = party.record.analyses[contrast].scores
    absolute = party.record.settings.get("rank") == "absolute"
    return scores.strength if absolute else scores.edge_scores


def _per_pair(ends: AllEnds, party: Party, contrast: str) -> Tensor:
    """Float32 [pair, source, target]: the model's own scores, which no record keeps, as they are
    ranked."""
    settings = Settings(**party.record.settings)  # type: ignore[arg-type]
    scores = scored(ends, settings, f"wiring of {party.name} {contrast}")
    return Ranks.of(scores, settings.rank).per_pair


def _loaded(party: Party) -> torch.nn.Module:
    assert party.load is not None
    return party.load()


def findings(table: pd.DataFrame) -> Iterator[str]:
    """A sentence for each ranking, by the size of the model's own circuits or half of it, whichever
    says more against it."""
    for (contrast, model, by), rows in table.groupby(
        ["contrast", "model", "ranked_by"], sort=False
    ):
        known = rows[(rows["at"] != "") & rows["kept"].notna()]
        begin = f"On {contrast!r} pairs circuits ranked by {by}"
        judged = [(_figures(row), int(row["edges"])) for _, row in known.iterrows()]
        if not judged:
            yield f"{begin} cannot be judged in {model}: its own circuits carry too little."
            continue
        words = [wired(kept, null) for (kept, null), _ in judged]
        word = next(one for one in WORDS if one in words)
        (kept, null), edges = judged[words.index(word)]
        yield (
            f"{begin} carry in {model}, at {edges} edges, {kept} of what its own carry (by half of "
            f"its pairs {null}): {WORDS[word].format(by)}."
        )


def _figures(row: pd.Series) -> tuple[Figure, Figure]:
    """What is kept, and its null."""
    kept, null = (
        Figure(*(float(row[f"{name}{end}"]) for end in ("", "_low", "_high")))
        for name in ("kept", "null")
    )
    return kept, null


def at_own_sizes(table: pd.DataFrame) -> pd.DataFrame:
    """For the terminal: the sizes of the models' own circuits, and half of these."""
    rows = table[table["at"] != ""]
    return pd.DataFrame(
        {
            "pairs": rows["contrast"],
            "ranked by": rows["ranked_by"],
            "tried in": rows["model"],
            "edges": rows["edges"].astype(str),
            **{
                name: [
                    str(Figure(*ends)) if ends[0] == ends[0] else "-"
                    for ends in rows[[name, f"{name}_low", f"{name}_high"]].to_numpy(float)
                ]
                for name in ("kept", "null")
            },
        }
    )
