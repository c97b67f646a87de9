"""The score of every edge by brute force: the truth that small models can afford."""

from __future__ import annotations

import torch
from torch import Tensor

from tracking.model.decoder import Decoder
from tracking.model.graph import Graph
from tracking.model.passes import Metric
from tracking.model.patching import outputs, patched_logits
from tracking.pairs.prompt_pairs import ProbeSet


def exact(decoder: Decoder, graph: Graph, probes: ProbeSet, loss: Metric, rows: int) -> Tensor:
    """Float32 [probe, source, target]: the metric with that edge alone corrupted, less the clean
    metric. One pass per probe and edge, `rows` of them at a time: for small models."""
    corrupted = outputs(decoder, probes, probes.corrupted)
    scores = torch.zeros(len(probes), *graph.edges.shape, device=probes.clean.device)
    clean_logits = patched_logits(decoder, graph, probes, corrupted, scores)
    clean = loss(clean_logits, clean_logits, probes)
    edges = graph.edges.nonzero().to(probes.clean.device)
    jobs = torch.cartesian_prod(torch.arange(len(probes)), torch.arange(len(edges)))
    for part in jobs.to(probes.clean.device).split(rows):
        probe, (source, target) = part[:, 0], edges[part[:, 1]].T
        dropped = scores.new_zeros(len(part), *graph.edges.shape)
        dropped[torch.arange(len(part)), source, target] = 1
        some = probes[probe.cpu()]
        patched = patched_logits(decoder, graph, some, corrupted.rows(probe), dropped)
        changed = loss(patched, clean_logits[probe], some)
        scores[probe, source, target] = changed - clean[probe]
    return scores
