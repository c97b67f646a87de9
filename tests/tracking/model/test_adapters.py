"""Live adapters are analysed as if they were merged, or refused."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import (
    AdaLoraConfig,
    BOFTConfig,
    FourierFTConfig,
    IA3Config,
    LNTuningConfig,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    PromptTuningConfig,
    TrainableTokensConfig,
    VeraConfig,
    get_peft_model,
)

from tests.builders.closeness import assert_close
from tests.builders.decoders import LINEAR, with_adapter
from tests.builders.draws import arches, few, seeds
from tests.builders.untouched import assert_same, everything
from tracking.attribution.attribute import attribute
from tracking.circuits.all_edges import check_all_edges
from tracking.errors import BadInput
from tracking.model.adapters import check_config, without_adapters
from tracking.model.decoder import Decoder


@arches
@few(2)
@given(seed=seeds, rslora=st.booleans())
def test_live_adapters_score_as_if_they_were_merged(
    tiny_decoder, random_pairs, arch: str, seed: int, rslora: bool
) -> None:
    pairs, base = random_pairs(seed=seed), tiny_decoder(arch, seed=seed)
    bare = attribute(base, pairs, metric="neg_logit_diff")
    model = with_adapter(base, seed, use_rslora=rslora).train()
    merged = copy.deepcopy(model).merge_and_unload()
    wanted = attribute(merged, pairs, metric="neg_logit_diff")
    assert float((wanted.edges - bare.edges).abs().max()) > 0.05 * float(wanted.edges.abs().max())
    before = everything(model)
    result = attribute(model, pairs, metric="neg_logit_diff")
    assert_same(before, everything(model))
    assert_close(result.edges, wanted.edges, 1e-4)
    with model.disable_adapter():
        assert_close(attribute(model, pairs, metric="neg_logit_diff").edges, bare.edges)
    model.merge_adapter()
    assert_close(attribute(model, pairs, metric="neg_logit_diff").edges, wanted.edges, 1e-4)


def live(model: Any, config: Any) -> Any:
    """The model with this adapter, as if it had been trained."""
    adapted = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(0)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return adapted.eval()


def lora(**more: Any) -> LoraConfig:
    return LoraConfig(r=4, **{"target_modules": LINEAR, **more})


@pytest.mark.parametrize(
    "config",
    [
        lora(),
        lora(target_modules=["q_proj", "embed_tokens", "lm_head"]),
        lora(target_modules=["q_proj"], modules_to_save=["v_proj", "o_proj", "input_layernorm"]),
        lora(target_modules=["v_proj"], target_parameters=["q_proj.weight"]),
        lora(trainable_token_indices=[1, 2, 3, 4, 5]),
        lora(bias="all"),
        AdaLoraConfig(init_r=4, target_r=2, total_step=10, target_modules=LINEAR),
        TrainableTokensConfig(token_indices=[1, 2, 3], target_modules=["embed_tokens"]),
    ],
    ids=["all", "tables", "saved", "parameters", "tokens", "bias", "adalora", "only tokens"],
)
@pytest.mark.filterwarnings("ignore")
def test_lora_in_all_its_forms_is_wired_as_the_model_is(
    tiny_decoder, random_pairs, config: Any
) -> None:
    check_all_edges(Decoder.of(live(tiny_decoder(), config)), random_pairs())


ATTENTION = ["q_proj", "v_proj", "o_proj"]


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (VeraConfig(r=4, target_modules=["o_proj"]), "VERA"),
        (IA3Config(target_modules=["k_proj", "v_proj"], feedforward_modules=[]), "IA3"),
        (LoHaConfig(r=4, target_modules=ATTENTION), "LOHA"),
        (LoKrConfig(r=4, target_modules=ATTENTION), "LOKR"),
        (OFTConfig(r=0, oft_block_size=4, target_modules=ATTENTION), "OFT"),
        (BOFTConfig(boft_block_size=4, target_modules=ATTENTION), "BOFT"),
        (FourierFTConfig(n_frequency=20, target_modules=ATTENTION), "FOURIERFT"),
        (LNTuningConfig(target_modules=["input_layernorm"]), "LN_TUNING"),
        (lora(use_dora=True), "DoRA"),
        (lora(lora_bias=True), "lora_bias"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.filterwarnings("ignore")
def test_an_adapter_that_no_weight_tells_is_refused_by_name(
    tiny_decoder, tmp_path: Path, config: Any, name: str
) -> None:
    model = live(tiny_decoder(attention_bias=True, arch="llama"), config)
    with pytest.raises(BadInput, match=rf"cannot track .*{name}.*supported: LoRA.*merge_and_unlo"):
        Decoder.of(model)
    config.save_pretrained(tmp_path)
    with pytest.raises(BadInput, match=f"cannot track .*{name}"):
        check_config(json.loads((tmp_path / "adapter_config.json").read_text()))


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_that_is_merged_or_disabled_is_none(tiny_decoder, random_pairs) -> None:
    pairs, base = random_pairs(), tiny_decoder()
    model = live(copy.deepcopy(base), LoHaConfig(r=4, target_modules=ATTENTION))
    wanted = attribute(copy.deepcopy(model).merge_and_unload(), pairs, metric="neg_logit_diff")
    with model.disable_adapter():
        bare = attribute(model, pairs, metric="neg_logit_diff")
        assert_close(bare.edges, attribute(base, pairs, metric="neg_logit_diff").edges)
    model.merge_adapter()
    assert_close(attribute(model, pairs, metric="neg_logit_diff").edges, wanted.edges, 1e-4)


def test_soft_prompts_are_refused(tiny_decoder, random_pairs) -> None:
    prompt = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with pytest.raises(BadInput, match="prompt"):
        attribute(get_peft_model(tiny_decoder(), prompt), random_pairs())


# The model without them


@arches
def test_without_its_adapters_a_model_is_its_base_and_shares_its_weights(
    tiny_decoder, random_pairs, arch: str
) -> None:
    base = tiny_decoder(arch)
    ids = random_pairs().clean
    with torch.no_grad():
        wanted = base(ids).logits
    peft = with_adapter(copy.deepcopy(base), seed=0).eval()
    inner, own = peft.get_base_model(), peft.get_base_model().forward
    inner.forward = lambda *args, **more: own(*args, **more)  # as TRL does
    with torch.no_grad():
        adapted = peft(ids).logits
    before = everything(peft)
    bare = without_adapters(peft)
    assert bare is not None
    with torch.no_grad():
        assert torch.equal(bare(ids).logits, wanted)
        assert torch.equal(peft(ids).logits, adapted) and not torch.equal(adapted, wanted)
    assert_same(before, everything(peft))
    mine = {weight.data_ptr() for weight in peft.parameters()}
    assert {weight.data_ptr() for weight in bare.parameters()} <= mine


@pytest.mark.parametrize(
    "more",
    [
        {"modules_to_save": ["lm_head"]},
        {"trainable_token_indices": [1]},
        {"init_lora_weights": "pissa"},
        {"bias": "lora_only"},
    ],
    ids=lambda more: next(iter(more)),
)
def test_a_base_that_is_not_there_any_more_is_not_made_up(tiny_decoder, more: dict) -> None:
    peft = get_peft_model(tiny_decoder(), LoraConfig(r=2, target_modules=["q_proj"], **more))
    assert without_adapters(peft) is None
    assert without_adapters(tiny_decoder()) is None
    merged = with_adapter(tiny_decoder(), seed=0)
    merged.merge_adapter()
    assert without_adapters(merged) is None


@few(2)
@given(seed=seeds)
def test_dropout_at_the_unembedding_of_a_model_in_training_is_not_seen(
    tiny_decoder, random_pairs, seed: int
) -> None:
    base, pairs = tiny_decoder(seed=seed), random_pairs(seed=seed)
    config = LoraConfig(
        r=2, target_modules=["lm_head", "q_proj"], lora_dropout=0.5, init_lora_weights=False
    )
    peft = get_peft_model(base, config).train()
    state = torch.get_rng_state()
    first, second = (attribute(peft, pairs, "eap", "neg_logit_diff") for _ in range(2))
    assert torch.equal(first.clean, second.clean) and torch.equal(first.edges, second.edges)
    assert torch.equal(torch.get_rng_state(), state)
    check_all_edges(Decoder.of(peft), pairs)
    assert all(module.training for module in peft.modules())
