"""A model with a part of another's weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tracking.comparison.exchange.crossed import Looks, Part
from tracking.interventions.graft import graft
from tracking.model.adapters import bias_of, effective_weight, merged_copy
from tracking.model.decoder import Decoder, embed, run
from tracking.model.taps import undisturbed


def transplanted(base: Any, donor: Any, part: Part) -> Any:
    """A copy of `base` with the donor's weights of `part`: as `graft` has it, and where all heads
    of a layer are exchanged also the bias of their output projection; embeddings and unembedding
    apart from each other, also where the models tie them.

    Query heads of a group share K and V: a head takes the donor's along for its whole group.
    Neither model is changed. Raises `BadInput` as `graft` does.
    """
    graph = Decoder.of(base).graph
    nodes = [graph.nodes[place] for place in part.nodes.nonzero()[:, 0].tolist()]
    copied = graft(base, donor, nodes, shared_kv=True) if nodes else merged_copy(base)
    target, source = Decoder.of(copied), Decoder.of(donor)
    with torch.no_grad():
        for layer, chosen in enumerate(part.nodes.view(graph.n_layers, -1)):
            ours, theirs = bias_of(target.blocks[layer].o), bias_of(source.blocks[layer].o)
            if bool(chosen[:-1].all()) and ours is not None and theirs is not None:
                ours.copy_(theirs)
        if part.embeddings or part.unembedding:
            _untie(copied)
        if part.embeddings:
            target.embedding.weight.copy_(source.embedding.weight)
        if part.unembedding:
            target.last_norm.weight.copy_(source.last_norm.weight)
            target.lm_head.weight.copy_(effective_weight(source.lm_head))
    return copied


def figures(model: Any, looks: Looks, batch_size: int) -> Tensor:
    """Float32 [row], on the CPU: the figure of `looks` of a model as it is."""
    decoder = Decoder.of(model)
    out = torch.zeros(len(looks))
    with undisturbed(decoder):
        for rows, batch in looks.batches(batch_size, decoder.device):
            last = run(decoder, embed(decoder, batch.token_ids), batch.mask)
            at = torch.arange(len(batch), device=last.device)[:, None], batch.positions
            out[rows] = batch.figure(decoder, last[at]).cpu()
    return out


def _untie(model: Any) -> None:
    """Give the unembedding a weight of its own."""
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
