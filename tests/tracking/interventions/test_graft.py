"""Grafted heads and MLPs make of a stream what the donor's make of it."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.builders.closeness import assert_close
from tests.builders.decoders import norms_behind, with_adapter
from tests.builders.draws import arches
from tests.builders.generation import generated, prompts
from tests.builders.untouched import assert_same, everything
from tracking.errors import BadInput
from tracking.interventions.graft import graft
from tracking.interventions.grafted import grafted
from tracking.interventions.intervene import intervene
from tracking.model.decoder import Decoder

ALL_OF_1 = ["L1H0", "L1H1", "L1H2", "L1H3"]


def two(tiny_decoder, arch: str, **more: Any) -> tuple[Any, Any]:
    """A base and a donor that differ in everything but their embeddings, norms of q and k and norms
    behind attention."""
    base, donor = tiny_decoder(arch, seed=1, **more), tiny_decoder(arch, seed=2, **more)
    donor.model.embed_tokens.load_state_dict(base.model.embed_tokens.state_dict())
    for ours, theirs in zip(base.model.layers, donor.model.layers, strict=True):
        for name in ("q_norm", "k_norm"):
            if hasattr(ours.self_attn, name):
                norm = getattr(ours.self_attn, name).state_dict()
                getattr(theirs.self_attn, name).load_state_dict(norm)
        if behind := norms_behind(ours)[0]:
            theirs.post_attention_layernorm.load_state_dict(behind.state_dict())
    return base, donor


def by_hand(base: Any, donor: Any, inputs: dict[str, Any], columns: slice) -> Tensor:
    """Logits where the heads of layer 1 with these `columns` write what they do in the donor."""
    z: dict[str, Tensor] = {}
    ours, theirs = (model.model.layers[1].self_attn.o_proj for model in (base, donor))
    for name, o in (("ours", ours), ("theirs", theirs)):
        model = base if name == "ours" else donor
        hook = o.register_forward_pre_hook(lambda _m, args, name=name: z.update({name: args[0]}))
        model(**inputs)
        hook.remove()
    mine = z["ours"][..., columns] @ ours.weight[:, columns].T
    change = z["theirs"][..., columns] @ theirs.weight[:, columns].T - mine
    hook = ours.register_forward_hook(lambda _m, _a, out: out + change)
    logits = base(**inputs).logits
    hook.remove()
    return logits


@torch.no_grad()
@arches
def test_a_head_running_beside_writes_what_it_does_there(tiny_decoder, arch: str) -> None:
    base, donor = two(tiny_decoder, arch)
    inputs = prompts()
    before = everything(base), everything(donor)
    with grafted(base, donor, ["L1H1"]):
        logits = base(**inputs).logits
    assert_same(before[0], everything(base))
    assert_same(before[1], everything(donor))
    assert_close(logits, by_hand(base, donor, inputs, slice(8, 16)), 1e-5)
    assert not torch.allclose(logits, base(**inputs).logits, atol=0.01)


@torch.no_grad()
@arches
def test_a_head_of_layer_0_in_the_weights_is_one_running_beside(tiny_decoder, arch: str) -> None:
    base, donor = two(tiny_decoder, arch)
    inputs, group = prompts(), ["L0H2", "L0H3"]
    before = everything(base), everything(donor)
    model = graft(base, donor, group)
    assert_same(before[0], everything(base))
    assert_same(before[1], everything(donor))
    with grafted(base, donor, group):
        assert_close(model(**inputs).logits, base(**inputs).logits, 1e-5)
    shared = graft(base, donor, ["L0H2"], shared_kv=True)
    assert not torch.allclose(shared(**inputs).logits, base(**inputs).logits, atol=0.01)
    alone, theirs, ours = (Decoder.of(each).blocks[0] for each in (shared, model, base))
    assert torch.equal(alone.v.weight, theirs.v.weight)  # the group's K and V
    assert torch.equal(alone.q.weight[24:], ours.q.weight[24:])  # its neighbour's own


@torch.no_grad()
@arches
def test_a_model_of_the_donors_nodes_is_the_donor(tiny_decoder, arch: str) -> None:
    base, donor = two(tiny_decoder, arch)
    donor.model.norm.load_state_dict(base.model.norm.state_dict())
    donor.lm_head.load_state_dict(base.lm_head.state_dict())
    inputs = prompts()
    everywhere = [f"L{layer}H{head}" for layer in (0, 1) for head in range(4)] + ["M0", "M1"]
    wanted = donor(**inputs).logits
    assert_close(graft(base, donor, everywhere)(**inputs).logits, wanted, 1e-4)
    with grafted(base, donor, everywhere):
        assert_close(base(**inputs).logits, wanted, 1e-5)
    with intervene(donor, {"L0H1": 0.5, "M1": 0.2}):
        scaled = donor(**inputs).logits
        with grafted(base, donor, everywhere):
            assert_close(base(**inputs).logits, scaled, 1e-5)
    nothing = graft(base, donor, [])
    assert torch.equal(nothing(**inputs).logits, base(**inputs).logits)


@torch.no_grad()
@arches
def test_mlps_read_through_the_donors_norm(tiny_decoder, arch: str) -> None:
    base, donor = two(tiny_decoder, arch)
    twin = copy.deepcopy(base)
    ours, theirs = twin.model.layers[1], donor.model.layers[1]
    names = ["mlp", "post_attention_layernorm"]
    if norms_behind(ours)[1]:
        names = ["mlp", "pre_feedforward_layernorm", "post_feedforward_layernorm"]
    for name in names:
        setattr(ours, name, getattr(theirs, name))
    assert torch.equal(graft(base, donor, ["M1"])(**prompts()).logits, twin(**prompts()).logits)


@pytest.mark.parametrize("arch", ["qwen2", "mistral"])
@pytest.mark.parametrize("beams", [1, 3])
def test_the_donor_keeps_step_in_generation(tiny_decoder, arch: str, beams: int) -> None:
    more = {"sliding_window": 4} if arch == "mistral" else {}
    base, donor = two(tiny_decoder, arch, **more)
    inputs = prompts()
    options = {"num_beams": beams, "num_return_sequences": beams}
    with grafted(base, donor, ["L0H1", "L1H3", "M1"]):
        cached = generated(base, inputs, **options)
        assert torch.equal(cached, generated(base, inputs, use_cache=False, **options))
        assert torch.equal(cached, generated(base, inputs, **options))  # a fresh cache each time
    assert not torch.equal(cached, generated(base, inputs, **options))


def test_heads_that_share_another_norm_behind_them_are_refused(tiny_decoder) -> None:
    base, donor = (tiny_decoder("gemma3_text", seed=seed) for seed in (1, 2))
    with (
        pytest.raises(BadInput, match="layer 1's norm behind attention, which all its heads share"),
        grafted(base, donor, ALL_OF_1),
    ):
        pass
    with pytest.raises(BadInput, match="layer 1's norms in attention"):
        graft(base, donor, ALL_OF_1[:2])
    grafted_norm = graft(base, donor, ALL_OF_1).model.layers[1].post_attention_layernorm
    assert torch.equal(grafted_norm.weight, donor.model.layers[1].post_attention_layernorm.weight)


def test_live_adapters_are_grafted_as_if_merged(tiny_decoder) -> None:
    base, donor = (
        with_adapter(tiny_decoder(seed=1), 1).eval(),
        with_adapter(tiny_decoder(), 2).eval(),
    )
    merged, other = (copy.deepcopy(each).merge_and_unload() for each in (base, donor))
    nodes, inputs = [*ALL_OF_1, "M0"], prompts()
    with torch.no_grad():
        wanted = graft(merged, other, nodes)(**inputs).logits
        assert_close(graft(base, donor, nodes)(**inputs).logits, wanted, 1e-5)
        with grafted(merged, other, nodes):
            wanted = merged(**inputs).logits
        with grafted(base, donor, nodes):
            assert_close(base(**inputs).logits, wanted, 1e-5)


def test_what_heads_share_is_not_changed_unsaid(tiny_decoder) -> None:
    base, donor = tiny_decoder(seed=1), tiny_decoder(seed=2)
    with pytest.raises(BadInput, match=r"^L0H0 would read.*shared_kv=True"):
        graft(base, donor, ["L0H1", "L1H2", "L1H3"])
    base, donor = tiny_decoder("qwen3", seed=1), tiny_decoder("qwen3", seed=2)
    with pytest.raises(BadInput, match=r"layer 1's norms in attention.*name all heads"):
        graft(base, donor, ["L1H2", "L1H3"])
    whole = graft(base, donor, ALL_OF_1).model.layers[1].self_attn
    assert torch.equal(whole.q_norm.weight, donor.model.layers[1].self_attn.q_norm.weight)
    base.model.layers[1].input_layernorm.weight.data[3] = 0
    with pytest.raises(BadInput, match="weight of 0"):
        graft(base, donor, ALL_OF_1)


def test_models_that_do_not_fit_and_caches_begun_outside_are_refused(tiny_decoder) -> None:
    base, donor = tiny_decoder(seed=1), tiny_decoder(seed=2)
    for how in (graft, lambda *given: grafted(*given).__enter__()):
        with pytest.raises(BadInput, match="differ in num_hidden_layers: 2 and 3"):
            how(base, tiny_decoder(layers=3), ["M0"])
        with pytest.raises(BadInput, match="differ in model_type"):
            how(base, tiny_decoder("llama"), ["M0"])
        with pytest.raises(BadInput, match="no node 'M2'"):
            how(base, donor, ["M2"])
        with pytest.raises(BadInput, match="same model"):
            how(base, base, ["M0"])
    inputs = prompts()
    cache = base(**inputs, use_cache=True).past_key_values
    with grafted(base, donor, ["M0"]):
        with pytest.raises(BadInput, match="empty in its first pass"):
            base(input_ids=inputs["input_ids"][:, :1], past_key_values=cache)
        with pytest.raises(BadInput, match="pass input_ids"):
            base(inputs_embeds=base.model.embed_tokens(inputs["input_ids"]))
