"""Attention weights of single heads are those that the model itself gives."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.builders.decoders import VARIANTS, make_decoder, with_adapter
from tracking import intervene
from tracking.errors import BadInput
from tracking.nodes.attended import LEVELS, attended, quantised

IDS = [3, 17, 4, 4, 29, 3, 17, 8, 41]
HEADS = ["L1H2", "L0H3", "L1H0"]  # not in the graph's order


def own(model: Any) -> Tensor:
    """What the model says, [head, query, key] of `HEADS`."""
    model.set_attn_implementation("eager")
    with torch.no_grad():
        layers = model(torch.tensor([IDS]), output_attentions=True).attentions
    model.set_attn_implementation("sdpa")
    return torch.stack([layers[int(head[1])][0, int(head[3])] for head in HEADS])


@pytest.mark.parametrize("arch", sorted({*VARIANTS} - {"gemma2"}))  # which has no sdpa
@pytest.mark.parametrize("factor", [1.0, 0.0])
def test_weights_are_the_models_own(arch: str, factor: float) -> None:
    model = make_decoder(arch, **VARIANTS[arch][0], attn_implementation="sdpa")
    with intervene(model, {"L0H1": factor}):
        wanted, weights = own(model), attended(model, IDS, HEADS)
    torch.testing.assert_close(weights, wanted, rtol=0, atol=1e-5)
    assert model.config._attn_implementation == "sdpa"
    kept = np.frombuffer(quantised(weights), np.uint8).reshape(weights.shape)
    assert np.abs(kept / LEVELS - wanted.numpy()).max() <= 1 / (2 * LEVELS) + 1e-5


def test_an_adapters_model_is_read_as_it_runs() -> None:
    adapted = with_adapter(make_decoder(), seed=1)
    plain = attended(make_decoder(), IDS, HEADS)
    assert (attended(adapted, IDS, HEADS) - plain).abs().max() > 0.01


def test_a_name_that_is_no_head_is_refused() -> None:
    with pytest.raises(BadInput, match="'M1' is no head of this model"):
        attended(make_decoder(), IDS, ["L0H0", "M1"])
