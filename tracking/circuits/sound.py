"""Whether patching wires a model as the model itself does: a net for what no list of names knows.

Three runs have two answers each, one from the model's own passes and one from passes with patched
edges, and both must be the same:

1. all edges kept: the clean run;
2. no edge kept: the corrupted run;
3. the edges out of all heads dropped: the clean run with every head's z replaced by the corrupted
   one. It sees what the heads write, which cancels out of the other two.

An adapter, a hook or a quantized layer that does more than its weight says fails one of them.
"""

from __future__ import annotations

from contextlib import ExitStack
from statistics import fmean

import torch
from torch import Tensor

from tracking.attribution.metrics import resolve
from tracking.circuits.faithfulness import Experiment
from tracking.errors import BadInput
from tracking.model.decoder import Decoder, embed
from tracking.model.edits import replaced
from tracking.model.passes import Passes, logits, trimmed
from tracking.model.patching import Corrupted
from tracking.model.taps import quiet, tapped
from tracking.pairs.prompt_pairs import PromptPairs

PAIRS = 4
METRIC = "neg_logit_diff"  # does not saturate, as probabilities do
EXACT, ROUNDED = 0.02, 0.1  # shares of |clean - corrupted|, in float32 and in lower precision
FLOOR = 1e-3  # logits, in float32
ROUNDING = 16  # spacings of a lower precision: what they come to over layers, of the logits' spread


def sound_wiring(decoder: Decoder, pairs: PromptPairs) -> None:
    """Raise `BadInput` where the first pairs, which need labels, show that patched passes are not
    the model's own: by more than 2 % of |clean - corrupted| (10 % below float32)."""
    graph, few = decoder.graph, pairs[torch.arange(min(PAIRS, len(pairs)))]
    heads = torch.cat([torch.arange(len(graph.sources))[graph.head_rows(i)]
                       for i in range(len(decoder.blocks))])  # fmt: skip
    without = graph.edge_mask.clone()
    without[heads] = False
    circuits = [graph.edge_mask, torch.zeros_like(graph.edge_mask), without]
    runs = Experiment.of(decoder.causal, few, METRIC, batch_size=1).run(circuits)
    without_heads, spread = _without_heads(decoder, few)
    clean, corrupted = _ends(decoder, few)
    own = {
        "all edges kept, the clean run": clean,
        "no edge kept, the corrupted run": corrupted,
        "all heads corrupted": without_heads,
    }
    allowed = _allowed(decoder, float((clean - corrupted).abs().mean()), spread)
    for (what, loss), patched in zip(own.items(), runs.patched, strict=True):
        if not float((patched - loss).abs().mean()) <= allowed:
            raise BadInput(
                f"cannot track this model: with {what}, patching gives a logit difference of "
                f"{-float(patched.mean()):.3g} and the model {-float(loss.mean()):.3g}; an "
                "adapter, a hook or a quantized layer does more than its weights say: merge or "
                "remove it"
            )


def _allowed(decoder: Decoder, difference: float, spread: float) -> float:
    """How many logits two ways to compute the same may be apart, as a mean over pairs; `difference`
    is |clean - corrupted|, `spread` the standard deviation of logits over the vocabulary."""
    coarse = torch.cuda.is_available() and torch.backends.cuda.matmul.allow_tf32
    spacing = 2.0**-10 if coarse else torch.finfo(decoder.dtype).eps
    if decoder.dtype == torch.float32 and not coarse:
        return EXACT * difference + FLOOR
    return ROUNDED * difference + ROUNDING * spacing * max(1.0, spread)


def _ends(decoder: Decoder, pairs: PromptPairs) -> tuple[Tensor, Tensor]:
    """Float32 [pair] each: the metric on the clean and on the corrupted prompts, by the model's own
    passes (`Experiment` takes both from patched ones below float32)."""
    with tapped(decoder) as taps:
        taps.outputs = False
        passes = Passes(decoder, decoder.graph, taps, (resolve(METRIC),))
        each = [
            passes.losses_at_ends(trimmed(pairs[torch.tensor([row])])) for row in range(len(pairs))
        ]
    clean, corrupted = torch.cat(each, dim=-1)[:, 0].cpu()
    return clean, corrupted


def _without_heads(decoder: Decoder, pairs: PromptPairs) -> tuple[Tensor, float]:
    """Float32 [pair]: the metric on the clean prompts where each head gives what it gives on the
    corrupted ones, by the model's own passes; and how far logits spread over the vocabulary."""
    loss, losses, spreads = resolve(METRIC), [], []
    for row in range(len(pairs)):
        pair = trimmed(pairs[torch.tensor([row])]).to(decoder.device)
        z = Corrupted.of(decoder, pair).outputs.z
        with torch.no_grad(), ExitStack() as stack:
            stack.enter_context(quiet(decoder))
            for layer, corrupted in enumerate(z):
                output = corrupted.to(decoder.dtype)
                stack.enter_context(replaced(decoder, layer, "z", output))
            given = logits(decoder, embed(decoder, pair.clean), pair)
        losses.append(loss(given, given, pair))
        spreads.append(float(given.std()))
    return torch.cat(losses).cpu(), fmean(spreads)
