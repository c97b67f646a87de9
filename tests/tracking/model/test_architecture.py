"""A family is read as it is built, or refused with the reason."""

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from tests.builders.decoders import make_decoder
from tests.builders.draws import arches
from tracking.errors import BadInput
from tracking.model.architecture import ARCHITECTURES, REFUSED, architecture_of
from tracking.model.decoder import Decoder


@arches
def test_projections_give_what_the_layer_reads(arch: str) -> None:
    decoder = Decoder.of(make_decoder(arch))
    values = torch.randn(2, 3, decoder.width)
    for block in decoder.blocks:
        widths = [projection(values).shape[-1] for projection in block.reads]
        assert widths == [decoder.n_heads * 8, decoder.n_kv_heads * 8, decoder.n_kv_heads * 8]
        if block.fused is not None:
            parts = torch.cat([projection(values) for projection in block.reads], dim=-1)
            assert torch.equal(parts, block.fused(values))


@arches
def test_an_mlp_is_as_wide_as_its_hidden_units(arch: str) -> None:
    assert Decoder.of(make_decoder(arch, width=32)).mlp_width == 64


@pytest.mark.parametrize("family", REFUSED)
def test_a_family_that_does_not_fit_is_refused_with_the_reason(family: str) -> None:
    AutoConfig.for_model(family)  # the name is one that transformers knows
    with pytest.raises(BadInput) as refused:
        architecture_of(family, Path("runs/theirs"))
    message = str(refused.value)
    assert message.startswith(f"cannot track a {family!r} model (runs/theirs): {REFUSED[family]}")
    assert message.endswith(f"supported: {', '.join(ARCHITECTURES)}") and "\n" not in message
