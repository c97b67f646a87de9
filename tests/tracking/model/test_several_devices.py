"""A model whose layers lie on several devices is analysed as on one: each tensor on its layer's."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from scripts.bench.prompts import told_apart
from tests.builders.decoders import make_decoder
from tests.builders.prompt_pairs import make_pairs
from tests.builders.records import assert_second_record_alike
from tests.builders.second_device import several_devices
from tracking import BadInput
from tracking.attribution.attribute import attribute
from tracking.attribution.plan import METHODS
from tracking.circuits.all_edges import check_all_edges
from tracking.circuits.faithfulness import faithfulness
from tracking.circuits.select import select
from tracking.model.decoder import Decoder
from tracking.nodes.effects import effects

RAGGED = make_pairs(6, ragged=True, looks=2, shared=2)
# GPUs of the embeddings, the layers, the last norm, the head: in a row, and as tied weights lie
SPLITS = [(0, (0, 1, 1), 1, 1), (0, (1, 1, 2), 2, 0)]


def model() -> Any:
    return make_decoder(layers=3, attn_implementation="eager")


def on_both(work: Callable[[Any], Any], split: tuple) -> tuple[Any, Any]:
    """What comes out on the CPU, and on several GPUs."""
    here, (first, layers, norm, head) = work(model()), split
    places = {"model.embed_tokens": first, "model.rotary_emb": first, "model.norm": norm}
    places |= {f"model.layers.{layer}": place for layer, place in enumerate(layers)}
    with several_devices() as dispatch:
        there = model()
        named = {**places, "lm_head": head}
        dispatch(there, {part: f"cuda:{place}" for part, place in named.items()})
        assert {str(one.device) for one in there.parameters()} == {
            f"cuda:{place}" for place in (first, *layers, norm, head)
        }
        return here, work(there)


def test_a_record_is_the_same_on_several_devices() -> None:
    pairs = told_apart(model(), make_pairs(4, shared=1), batch_size=4)
    both, base = partial(on_both, split=SPLITS[1]), make_decoder(seed=1, layers=3)
    quick = {"ig_steps": 2, "max_ig_steps": 4, "resamples": 10}
    assert_second_record_alike(both, model(), base, pairs, **quick)


@pytest.mark.parametrize("method", METHODS)
def test_scores_are_the_same_on_several_devices(method: str) -> None:
    pairs = RAGGED[:1] if method == "exact" else RAGGED
    here, there = on_both(
        lambda of: attribute(of, pairs, method, "neg_logit_diff", steps=2).edges, SPLITS[1]
    )
    assert there.device.type == "cpu" and torch.allclose(here, there, atol=1e-5)


def test_effects_and_patching_are_the_same_on_several_devices() -> None:
    split = SPLITS[0]

    def measured(of: Any) -> torch.Tensor:
        return torch.tensor(effects(of, RAGGED)[["corrupt", "restore"]].to_numpy())

    here, there = on_both(measured, split)
    assert torch.allclose(here, there, atol=1e-5)
    circuit = select(attribute(model(), RAGGED), edges=90)
    here, there = on_both(lambda of: faithfulness(of, RAGGED, circuit), split)
    assert here.value == pytest.approx(there.value, abs=1e-5)
    assert on_both(lambda of: check_all_edges(Decoder.of(of), RAGGED), split) == (None, None)


def test_weights_that_found_no_room_on_a_gpu_are_refused() -> None:
    offloaded = model()
    offloaded.model.layers[2].to("meta")  # where accelerate leaves them
    with pytest.raises(BadInput, match="device_map found no room for it; take more GPUs"):
        attribute(offloaded, RAGGED)
