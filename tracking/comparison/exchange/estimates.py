"""First-order estimates of what single nodes carry between two models: which are worth a pass.

    figure with the other's write of a node - figure = gradient . (other's write - own) + ...

One backward pass of each model says it of all nodes (attribution patching, Nanda 2023; Syed et al.
2023, arXiv 2310.10348). It is near where the models are: a training of a few steps. What it leaves
out is measured on a sample.
"""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from tracking.comparison.exchange.crossed import Crossed, Looks, both_ways
from tracking.model.decoder import Decoder, embed, run
from tracking.model.ends import Kept


def estimated_nodes(base: Decoder, trained: Decoder, looks: Looks, batch_size: int = 8) -> Crossed:
    """Of every node alone, in the order of `Graph.nodes`, as `crossed_nodes` measures it."""
    return both_ways(base, trained, looks, _changes, batch_size)


def _changes(here: Kept, other: Kept, batch: Looks) -> Tensor:
    """Float32 [row, node] on the CPU: by how much the figure of the run `here` would change."""
    decoder, donor = here.decoder, other.decoder
    out = []
    for layer, (of_heads, of_mlp) in enumerate(_gradients(decoder, batch)):
        ours, theirs = here.layers[layer], other.layers[layer]
        along = [
            (of_heads @ one.projection(layer, "o") * kept.z.float()).sum(1)  # [row, feature]
            for one, kept in ((donor, theirs), (decoder, ours))
        ]
        out.append((along[0] - along[1]).unflatten(1, (decoder.n_heads, -1)).sum(-1))
        mlp = of_mlp * (theirs.mlp_out.float() - ours.mlp_out.float())
        out.append(mlp.sum((1, 2))[:, None])
    return torch.cat(out, 1).cpu()


def _gradients(decoder: Decoder, batch: Looks) -> list[tuple[Tensor, Tensor]]:
    """By layer, float32 [row, position, width]: of the figure by what all heads write, and by what
    the MLP does."""
    seen: list[Tensor] = []

    def see(_module: nn.Module, _args: tuple, out: Tensor) -> None:
        seen.append(out)

    with ExitStack() as stack, torch.enable_grad():
        for block in decoder.blocks:
            for module in (block.o, block.mlp_out):
                stack.callback(module.register_forward_hook(see).remove)
        begin = embed(decoder, batch.token_ids).detach().requires_grad_()
        last = run(decoder, begin, batch.mask)
        rows = torch.arange(len(batch), device=last.device)[:, None]
        total = batch.figure(decoder, last[rows, batch.positions]).sum()
        each = [one.float() for one in torch.autograd.grad(total, seen)]
    return list(zip(each[::2], each[1::2], strict=True))
