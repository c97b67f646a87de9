"""Nodes that one model's record leaves out and another's does not, measured there too.

A record of a large model measures the nodes that its scores make likely. A node that is active in
one model is to be measured in all before it is said that it is so in one only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from tracking.attribution import metrics
from tracking.comparison.party import Party
from tracking.contrast import METRIC
from tracking.ledger.record import Analysis
from tracking.model.decoder import Decoder
from tracking.model.ends import AllEnds
from tracking.nodes.effects import node_effects
from tracking.pairs.prompt_pairs import PromptPairs


def measured_alike(parties: Sequence[Party], batch_size: int) -> Sequence[Party]:
    """The parties with every node measured that is so in any of the same shape; one whose weights
    are gone stays as it is."""
    alike = [[o for o in parties if o.record.graph == p.record.graph] for p in parties]
    return [_with(*one, batch_size) for one in zip(parties, alike, strict=True)]


def _with(party: Party, parties: Sequence[Party], batch_size: int) -> Party:
    analyses, model = dict(party.record.analyses), None
    for contrast in party.pairs:
        everywhere = [_seen(other.record.analyses[contrast]) for other in parties]
        lacking = torch.stack(everywhere).any(0) & ~_seen(analyses[contrast])
        if not lacking.any() or party.load is None:
            continue
        model, pairs = model or party.load(), party.pairs[contrast]
        analyses[contrast] = _measured(model, analyses[contrast], pairs, lacking, batch_size)
    return replace(party, record=replace(party.record, analyses=analyses))


def _seen(analysis: Analysis) -> Tensor:
    """BoolTensor [node], measured on any pair."""
    return analysis.nodes.measured


def _measured(
    model: nn.Module, analysis: Analysis, pairs: PromptPairs, nodes: Tensor, batch_size: int
) -> Analysis:
    """The analysis with the exact effects of more `nodes`, BoolTensor [node]."""
    ends = AllEnds.of(Decoder.of(model), pairs, min(batch_size, len(pairs)))
    effects = node_effects(ends, nodes, metrics.resolve(METRIC))
    before = analysis.nodes
    return replace(
        analysis,
        nodes=replace(
            before,
            corrupt=effects.corrupt.where(nodes, before.corrupt),
            restore=effects.restore.where(nodes, before.restore),
        ),
    )
