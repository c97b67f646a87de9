"""A decoder whose weights are set by hand: two writers and two readers, wired straight or crossed.

The answer is the token that stood first. Each writer copies it to a channel of its own at every
position; each reader copies a channel, or a part of both, to where the unembedding looks. The heads
between copy a little of it directly: they are next in rank, and no wire of the crossed model is.
Other heads and all MLPs write noise that the unembedding does not see.
"""

from __future__ import annotations

from typing import Any

import torch

from scripts.control.by_hand import ANSWER, blank, copy_first, head_views
from tracking.pairs.prompt_pairs import PromptPairs

TOKENS, LENGTH = 12, 8
WRITERS, READERS = ("L0H1", "L0H2"), ("L2H0", "L2H3")
DIRECT = ("L1H0", "L1H1", "L1H2", "L1H3")
CHANNELS = (slice(12, 24), slice(24, 36))
NOISE = 50  # the first direction that nothing reads


def crossed(part: float, seed: int = 0) -> Any:
    """The model in which each reader reads this part from the other writer's channel."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = blank(TOKENS, TOKENS, heads=4, seed=seed)
        for layer in model.model.layers:
            for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
                projection.weight[:NOISE] = 0
        for node, target in zip(WRITERS, CHANNELS, strict=True):
            copy_first(model, node, TOKENS, target, 4)
        for node in DIRECT:
            copy_first(model, node, TOKENS, ANSWER, 0.25)
        for reader, own, other in zip(READERS, CHANNELS, CHANNELS[::-1], strict=True):
            *_, value, out = head_views(model, reader)
            value[:TOKENS, own] = (1 - part) * torch.eye(TOKENS)
            value[:TOKENS, other] = part * torch.eye(TOKENS)
            out[ANSWER, :TOKENS] = 2 * torch.eye(TOKENS)
    return model


def pairs_of(count: int, seed: int = 0) -> PromptPairs:
    """Prompts that differ in their first token."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.arange(count) % (TOKENS // 2)
    moved = torch.randint(1, TOKENS // 2, (count,), generator=generator)
    other = (first + moved) % (TOKENS // 2)
    rest = torch.randint(TOKENS // 2, TOKENS, (count, LENGTH - 1), generator=generator)
    clean, corrupted = (torch.cat([one[:, None], rest], dim=1) for one in (first, other))
    return PromptPairs(clean, corrupted, labels=torch.stack([first, other], dim=1))
