"""What does more than its weights say is refused, whatever it is; what does not is not."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.decoders import jumping, with_adapter
from tests.builders.draws import arches, few, seeds
from tests.builders.untouched import assert_same, everything
from tracking.circuits.all_edges import check_all_edges
from tracking.errors import BadInput
from tracking.ledger.ledger import Ledger
from tracking.model.decoder import Decoder
from tracking.worker import Worker


@arches
@few(2)
@given(seed=seeds, side=st.sampled_from(["left", "right"]))
def test_every_family_is_wired_as_it_is_patched(
    tiny_decoder, random_pairs, arch: str, seed: int, side: str
) -> None:
    pairs = random_pairs(seed=seed, ragged=True, side=side, looks=2)
    check_all_edges(Decoder.of(tiny_decoder(arch, seed=seed)), pairs)
    check_all_edges(Decoder.of(with_adapter(tiny_decoder(arch, seed=seed), seed)), pairs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@arches
def test_rounding_fails_no_check(tiny_decoder, random_pairs, arch: str, dtype: torch.dtype) -> None:
    model = tiny_decoder(arch, layers=12, seed=1).to(dtype)
    check_all_edges(Decoder.of(model), random_pairs(ragged=True))


def test_a_model_that_is_sure_of_itself_is_no_unsound_one(tiny_decoder, random_pairs) -> None:
    model, pairs = jumping(tiny_decoder, random_pairs, seed=3)
    check_all_edges(Decoder.of(model), pairs)
    check_all_edges(Decoder.of(model.to(torch.bfloat16)), pairs)


def test_the_model_is_as_before(tiny_decoder, random_pairs) -> None:
    model = with_adapter(tiny_decoder(), 0).train()
    before = everything(model)
    check_all_edges(Decoder.of(model), random_pairs())
    assert_same(before, everything(model))


def hooked(model: Any, place: str, factor: float) -> Any:
    """The model with a hook on every such module that multiplies what it gives."""

    def scaled(_module: Any, _args: Any, out: Any) -> Any:
        return (factor * out[0], *out[1:]) if isinstance(out, tuple) else factor * out

    for name, module in model.named_modules():
        if name.endswith(place):
            module.register_forward_hook(scaled)
    return model


PLACES = ["q_proj", "k_proj", "v_proj", "o_proj", "self_attn", "input_layernorm"]


@pytest.mark.parametrize(("dtype", "factor"), [(torch.float32, 1.5), (torch.bfloat16, 5.0)])
@pytest.mark.parametrize("place", PLACES)
def test_a_hook_that_no_list_knows_is_seen(
    tiny_decoder, random_pairs, place: str, dtype: torch.dtype, factor: float
) -> None:
    model = hooked(tiny_decoder(seed=2), place, factor).to(dtype)
    with pytest.raises(BadInput, match=r"cannot track this model: .* says|and the model"):
        check_all_edges(Decoder.of(model), random_pairs(seed=2))


def test_a_worker_refuses_it_before_the_first_record(tiny_decoder, random_pairs, tmp_path) -> None:
    model = tiny_decoder()
    worker = Worker(Ledger(tmp_path), {"pairs": random_pairs()})
    worker.check(model)
    with pytest.raises(BadInput, match="o_proj of layer 0 is 50% off what its weight says"):
        worker.check(hooked(model, "o_proj", 1.5))
