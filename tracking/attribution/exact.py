"""The score of every edge by brute force: the truth that small models can afford."""

from __future__ import annotations

import torch
from torch import Tensor

from tracking.model.decoder import Decoder
from tracking.model.ends import Ends
from tracking.model.graph import Graph
from tracking.model.passes import Metric
from tracking.patching.edges import patched_logits


def exact(decoder: Decoder, graph: Graph, ends: Ends, loss: Metric, rows: int) -> Tensor:
    """Float32 [pair, source, target]: the metric with that edge alone corrupted, less the clean
    metric. One pass per pair and edge, `rows` of them at a time: for small models."""
    pairs, corrupted = ends.pairs, ends.corrupted
    whole = graph.edge_mask.to(pairs.clean.device)
    scores = torch.zeros(len(pairs), *graph.edge_mask.shape, device=pairs.clean.device)
    clean_logits = patched_logits(decoder, graph, ends.rest, corrupted, whole)
    clean = loss(clean_logits, clean_logits, pairs)
    edges = graph.edge_mask.nonzero().to(pairs.clean.device)
    jobs = torch.cartesian_prod(torch.arange(len(pairs)), torch.arange(len(edges)))
    for part in jobs.to(pairs.clean.device).split(rows):
        pair, (source, target) = part[:, 0], edges[part[:, 1]].T
        kept = whole.repeat(len(part), 1, 1)
        kept[torch.arange(len(part)), source, target] = False
        some = pairs[pair]
        rest = ends.rest.rows(pair)
        patched = patched_logits(decoder, graph, rest, corrupted.rows(pair), kept)
        changed = loss(patched, clean_logits[pair], some)
        scores[pair, source, target] = changed - clean[pair]
    return scores
