"""An analysis taps a model in training and leaves it as it was."""

import pytest
import torch
from torch import Tensor

from tests.builders.closeness import assert_close
from tests.builders.decoders import in_training
from tests.builders.draws import ARCHES, METHODS, arches
from tests.builders.untouched import assert_same, everything
from tracking.attribution.attribute import attribute
from tracking.pairs.prompt_pairs import PromptPairs


@pytest.mark.parametrize(
    ("arch", "method", "rule"),
    [
        *((arch, "eap-ig", "adaptive") for arch in ARCHES),
        *(("qwen2", method, "left") for method in METHODS),
    ],
)
def test_a_model_in_training_is_as_before(
    tiny_decoder, random_pairs, arch: str, method: str, rule: str
) -> None:
    model, pairs = in_training(tiny_decoder, arch), random_pairs()
    before = everything(model)
    result = attribute(model, pairs, method, "prob", quadrature=rule)
    assert_same(before, everything(model))
    calm = tiny_decoder(arch, attention_dropout=0.5, seed=3)
    assert_close(result.edges, attribute(calm, pairs, method, "prob", quadrature=rule).edges)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_model_is_as_before_when_the_metric_fails_midway(
    tiny_decoder, random_pairs, method: str, calls: int
) -> None:
    model, left = in_training(tiny_decoder, "qwen3"), calls

    def failing(logits: Tensor, clean_logits: Tensor, pairs: PromptPairs) -> Tensor:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        return logits.sum((-1, -2))

    before = everything(model)
    with pytest.raises(KeyboardInterrupt):
        attribute(model, random_pairs(), method, failing)
    assert_same(before, everything(model))


def test_a_forward_pass_gives_the_same_after_an_analysis(tiny_decoder, random_pairs) -> None:
    model, pairs = tiny_decoder(kv_heads=1), random_pairs()
    before = model(pairs.clean).logits
    attribute(model, pairs)
    assert torch.equal(model(pairs.clean).logits, before)


@arches
def test_activation_checkpointing_changes_nothing_and_stays_on(
    tiny_decoder, random_pairs, arch: str
) -> None:
    pairs, plain = random_pairs(), tiny_decoder(arch, seed=4)
    wanted = attribute(plain, pairs, metric="neg_logit_diff")
    for reentrant in (True, False):
        model = tiny_decoder(arch, seed=4).train()
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model.enable_input_require_grads()
        before = everything(model)
        result = attribute(model, pairs, metric="neg_logit_diff")
        assert_same(before, everything(model))
        assert model.is_gradient_checkpointing
        assert_close(result.edges, wanted.edges, 1e-6)


def test_no_gradient_mode_around_an_analysis_changes_nothing(tiny_decoder, random_pairs) -> None:
    model, pairs = tiny_decoder(), random_pairs()
    wanted = attribute(model, pairs)
    with torch.no_grad():
        result = attribute(model, pairs)
        assert not torch.is_grad_enabled()
    assert torch.equal(result.edges, wanted.edges)
