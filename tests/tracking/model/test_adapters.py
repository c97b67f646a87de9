"""Live adapters are analysed as if they were merged, or refused."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peft import PromptTuningConfig, get_peft_model

from tests.builders.closeness import assert_close
from tests.builders.decoders import with_adapter
from tests.builders.draws import arches, few, seeds
from tests.builders.untouched import assert_same, everything
from tracking.attribution.attribute import attribute
from tracking.errors import BadInput


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
    found = attribute(model, pairs, metric="neg_logit_diff")
    assert_same(before, everything(model))
    assert_close(found.edges, wanted.edges, 1e-4)
    with model.disable_adapter():
        assert_close(attribute(model, pairs, metric="neg_logit_diff").edges, bare.edges)
    model.merge_adapter()
    assert_close(attribute(model, pairs, metric="neg_logit_diff").edges, wanted.edges, 1e-4)


def test_adapters_that_are_not_plain_lora_are_refused(tiny_decoder, random_pairs) -> None:
    with pytest.raises(BadInput, match="DoRA"):
        attribute(with_adapter(tiny_decoder(), 0, use_dora=True), random_pairs())
    prompt = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with pytest.raises(BadInput, match="prompt"):
        attribute(get_peft_model(tiny_decoder(), prompt), random_pairs())
