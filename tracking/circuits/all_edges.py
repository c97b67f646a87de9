"""Whether weights and patched passes say of a model what it does: a net for what no list of names
knows, an adapter, a hook or a quantized layer that does more than its weight.

1. each of q, k, v and o gives what its weight and bias say;
2. all edges kept give the clean run, no edge the corrupted one.
"""

from __future__ import annotations

import torch
from torch.nn.functional import linear

from tracking.attribution.metrics import resolve
from tracking.circuits.faithfulness import Experiment
from tracking.errors import BadInput
from tracking.model.adapters import bias_of
from tracking.model.decoder import Decoder
from tracking.model.ends import AllEnds
from tracking.model.taps import quiet
from tracking.pairs.prompt_pairs import PromptPairs

PAIRS = 4
METRIC = "neg_logit_diff"  # does not saturate, as probabilities do
EXACT, ROUNDED = 0.02, 0.1  # shares of what is compared, in float32 and in lower precision
FLOOR = 1e-3  # logits, in float32
ROUNDING = 16  # spacings of a lower precision: what they come to over layers
REMEDY = (
    "an adapter, a hook or a quantized layer does more than its weights say: merge or remove it"
)


def check_all_edges(decoder: Decoder, pairs: PromptPairs) -> None:
    """Raise `BadInput` where a projection gives something else than its weight says, or where the
    first pairs, which need labels, show that patched passes are not the model's own: by more than
    2 % (10 % below float32)."""
    _check_projections(decoder)
    few = pairs[torch.arange(min(PAIRS, len(pairs)))]
    graph = decoder.graph
    circuits = [graph.edge_mask, torch.zeros_like(graph.edge_mask)]
    patched = Experiment.of(decoder.causal, few, METRIC, batch_size=1).run(circuits).patched
    # the model's own passes: below float32 `Experiment` takes both ends from patched ones
    ends = AllEnds.of(decoder, few, batch_size=1).losses([resolve(METRIC)])[:, 0]
    allowed = _allowed(decoder, float((ends[0] - ends[1]).abs().mean()))
    for kept, ours, own in zip(("all edges", "no edge"), patched, ends, strict=True):
        if not float((ours - own).abs().mean()) <= allowed:
            raise BadInput(
                f"cannot track this model: with {kept} kept, patching gives a logit difference of "
                f"{-float(ours.mean()):.3g} and the model {-float(own.mean()):.3g}; {REMEDY}"
            )


def _check_projections(decoder: Decoder) -> None:
    """On random inputs, layer by layer."""
    generator = torch.Generator().manual_seed(0)
    share = EXACT if decoder.dtype == torch.float32 else ROUNDED
    with torch.no_grad(), quiet(decoder):
        for layer, block in enumerate(decoder.blocks):
            for name in ("q", "k", "v", "o"):
                module, weight = getattr(block, name), decoder.projection(layer, name)
                given = torch.randn(2, 1, weight.shape[1], generator=generator).to(weight)
                bias = bias_of(module)
                wanted = linear(given, weight, None if bias is None else bias.float())
                error = module(given.to(decoder.dtype)).float() - wanted
                if not float(error.norm()) <= share * float(wanted.norm()):
                    raise BadInput(
                        f"cannot track this model: {name}_proj of layer {layer} is "
                        f"{float(error.norm() / wanted.norm()):.0%} off what its weight says; "
                        f"{REMEDY}"
                    )


def _allowed(decoder: Decoder, difference: float) -> float:
    """How many logits two ways to compute the same may be apart, as a mean over pairs; `difference`
    is |clean - corrupted|."""
    if decoder.precision == "float32":
        return EXACT * difference + FLOOR
    spacing = 2.0**-10 if decoder.precision == "tf32" else torch.finfo(decoder.dtype).eps
    return ROUNDED * difference + ROUNDING * spacing
