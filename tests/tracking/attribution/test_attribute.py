"""Attribution keeps its laws however a model is run, and names what it cannot take."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from tests.builders.closeness import assert_close, correlation
from tests.builders.draws import METHODS, METRICS, arches, few, seeds
from tests.builders.prompt_pairs import repadded
from tests.builders.untouched import assert_same, everything
from tracking.attribution.attribute import attribute, attribute_all
from tracking.errors import BadInput
from tracking.pairs.prompt_pairs import PromptPairs

# Laws


@arches
@few(3)
@given(seed=seeds, method=st.sampled_from(METHODS[:-2]), metric=st.sampled_from(METRICS))
def test_equal_prompts_score_exactly_zero(
    tiny_decoder, random_pairs, arch: str, seed: int, method: str, metric: str
) -> None:
    pairs = random_pairs(seed=seed, ragged=True)
    same = PromptPairs(pairs.clean, pairs.clean, pairs.attention_mask, pairs.labels)
    scores = attribute(tiny_decoder(arch, seed=seed), same, method, metric, batch_size=3)
    assert torch.equal(scores.edges, torch.zeros_like(scores.edges))
    assert torch.equal(scores.clean, scores.corrupted)


@arches
@few(3)
@given(seed=seeds, count=st.integers(1, 5), method=st.sampled_from(["eap", "eap-ig"]))
def test_a_union_s_score_is_the_weighted_mean_of_its_parts(
    tiny_decoder, random_pairs, arch: str, seed: int, count: int, method: str
) -> None:
    model, pairs = tiny_decoder(arch, seed=seed), random_pairs(pairs=6, ragged=True, seed=seed)

    def edges(of: PromptPairs) -> Tensor:
        return attribute(model, of, method, "neg_logit_diff").edges

    parts = count * edges(pairs[:count]) + (6 - count) * edges(pairs[count:])
    assert_close(edges(pairs), parts / 6)


@arches
@few(5)
@given(
    seed=seeds,
    method=st.sampled_from(METHODS),
    metric=st.sampled_from(["neg_logit_diff", "prob", "nll"]),
    batch_size=st.integers(1, 7),
    side=st.sampled_from(["left", "right"]),
    extra=st.integers(0, 3),
)
def test_batch_size_and_padding_change_nothing(
    tiny_decoder,
    random_pairs,
    arch: str,
    seed: int,
    method: str,
    metric: str,
    batch_size: int,
    side: str,
    extra: int,
) -> None:
    more = {"sliding_window": 3} if arch == "mistral" else {}
    model = tiny_decoder(arch, seed=seed, **more)
    pairs = random_pairs(ragged=True, looks=2, seed=seed)
    other = repadded(pairs, side, extra, seed)
    wanted = attribute(model, pairs, method, metric, batch_size=5, per_pair=True)
    result = attribute(model, other, method, metric, batch_size=batch_size, per_pair=True)
    assert wanted.per_pair is not None and result.per_pair is not None
    assert_close(result.per_pair, wanted.per_pair)
    assert torch.allclose(result.corrupted, wanted.corrupted, atol=1e-5)


# Ways of running a model


@arches
def test_sdpa_and_eager_attention_agree(tiny_decoder, random_pairs, arch: str) -> None:
    more = {"sliding_window": 3} if arch == "mistral" else {}
    model, pairs = tiny_decoder(arch, **more), random_pairs(ragged=True, side="left")
    result = []
    for kernel in ("sdpa", "eager"):
        model.set_attn_implementation(kernel)
        result.append(attribute(model, pairs, metric="neg_logit_diff").edges)
        assert model.config._attn_implementation == kernel
    assert_close(result[0], result[1])


@arches
@pytest.mark.parametrize("metric", METRICS)
def test_bfloat16_scores_go_with_float32_ones(
    tiny_decoder, random_pairs, arch: str, metric: str
) -> None:
    low = tiny_decoder(arch, seed=1).to(torch.bfloat16)
    high, pairs = copy.deepcopy(low).float(), random_pairs(seed=1)
    result, wanted = (attribute(model, pairs, metric=metric) for model in (low, high))
    assert result.edges.dtype == torch.float32
    assert correlation(result.edges, wanted.edges) > 0.99


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("metric", ["kl", "neg_logit_diff"])
def test_large_biases_of_k_do_not_swallow_bfloat16_scores(
    tiny_decoder, random_pairs, metric: str, seed: int
) -> None:
    """What is left of k in bfloat16 beside a bias of 100 is noise; queries are small here, so that
    attention itself stays right."""
    low = tiny_decoder("qwen2", seed=seed).to(torch.bfloat16)
    for layer in low.model.layers:
        query, key = layer.self_attn.q_proj, layer.self_attn.k_proj
        query.weight.data *= 0.05
        query.bias.data *= 0.05
        key.weight.data *= 0.1
        key.bias.data = 100 * key.bias.data.sign()
    high, pairs = copy.deepcopy(low).float(), random_pairs(pairs=6, seed=seed)
    result, wanted = (attribute(model, pairs, metric=metric) for model in (low, high))
    keys = [i for i, name in enumerate(result.graph.targets) if name.endswith(".k")]
    assert correlation(result.edges, wanted.edges) > 0.99
    assert correlation(result.edges[:, keys], wanted.edges[:, keys]) > 0.995


# Mistakes of the user


def test_a_custom_metric_stands_in_for_a_named_one(tiny_decoder, random_pairs) -> None:
    model, pairs = tiny_decoder(), random_pairs()

    def difference(logits: Tensor, clean_logits: Tensor, pairs: PromptPairs) -> Tensor:
        assert pairs.labels is not None
        rows = torch.arange(len(pairs))
        return logits[rows, 0, pairs.labels[:, 1]] - logits[rows, 0, pairs.labels[:, 0]]

    result = attribute(model, pairs, metric=difference, batch_size=2)
    assert result.metric == "difference"
    assert_close(result.edges, attribute(model, pairs, metric="neg_logit_diff").edges, 1e-6)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (lambda logits, *_: logits.sum(), r"\(\)"),
        (lambda logits, *_: logits.sum(-1), r"\(5, 1\)"),
        (lambda logits, *_: 0.0, "float"),
        (lambda logits, *_: None, "NoneType"),
    ],
)
def test_a_metric_of_the_wrong_shape_is_refused_with_its_shape(
    tiny_decoder, random_pairs, wrong: Any, named: str
) -> None:
    model = tiny_decoder()
    before = everything(model)
    with pytest.raises(BadInput, match=named):
        attribute(model, random_pairs(), metric=wrong)
    assert_same(before, everything(model))


def test_an_unsupported_architecture_is_named_with_the_supported_ones(random_pairs) -> None:
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=50))
    with pytest.raises(BadInput, match=r"'gpt2'.*llama, mistral, phi3, qwen2, qwen3"):
        attribute(model, random_pairs())
    with pytest.raises(BadInput, match="Linear"):
        attribute(torch.nn.Linear(2, 2), random_pairs())


@pytest.mark.parametrize("part", ["clean", "corrupted"])
def test_a_token_outside_the_vocabulary_is_named(tiny_decoder, random_pairs, part: str) -> None:
    ids = random_pairs().tensors
    ids[part] = ids[part].clone()
    ids[part][3, 2] = 50
    with pytest.raises(BadInput, match=r"50 .* 50 tokens"):
        attribute(tiny_decoder(vocabulary=50), PromptPairs(**ids))


@pytest.mark.parametrize("metric", ["neg_logit_diff", "prob", "nll"])
def test_a_label_outside_the_vocabulary_is_named(tiny_decoder, random_pairs, metric: str) -> None:
    ids = random_pairs().tensors
    ids["labels"] = torch.full_like(ids["labels"], 50)
    with pytest.raises(BadInput, match="50"):
        attribute(tiny_decoder(vocabulary=50), PromptPairs(**ids), metric=metric)


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.1.self_attn.k_proj.bias",
        "model.layers.0.mlp.up_proj.weight",
        "model.norm.weight",
        "lm_head.weight",
    ],
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_named(
    tiny_decoder, random_pairs, name: str, value: float
) -> None:
    model = tiny_decoder()
    model.get_parameter(name).data.view(-1)[-1] = value
    with pytest.raises(BadInput, match=name.removeprefix("model.").replace(".", r"\.")):
        attribute(model, random_pairs())


@pytest.mark.parametrize("metric", ["neg_logit_diff", "prob", "nll"])
def test_a_metric_that_needs_labels_says_so(tiny_decoder, random_pairs, metric: str) -> None:
    with pytest.raises(BadInput, match=f"{metric}.*labels"):
        attribute(tiny_decoder(), random_pairs(labels=False), metric=metric)


def test_memory_without_room_for_a_pair_is_refused_else_nothing_changes(
    tiny_decoder, random_pairs
) -> None:
    model, pairs = tiny_decoder(), random_pairs()
    with pytest.raises(BadInput, match="memory_gb is 1e-06"):
        attribute(model, pairs, memory_gb=1e-6)
    result = attribute(model, pairs, memory_gb=1.5e-3)
    assert_close(result.edges, attribute(model, pairs).edges)


def test_several_metrics_from_one_run_are_those_of_a_run_each(tiny_decoder, random_pairs) -> None:
    model, pairs = tiny_decoder(), random_pairs()
    for method in ("eap-ig", "eap-ig-activations", "exact", "node-ig"):
        together = attribute_all(model, pairs, METRICS, method=method, per_pair=True)
        for metric, ours in zip(METRICS, together, strict=True):
            alone = attribute(model, pairs, method, metric, per_pair=True)
            assert ours.metric == metric
            for name in ("edges", "strength", "clean", "corrupted", "per_pair"):
                there, here = getattr(alone, name), getattr(ours, name)
                assert (there - here).abs().max() <= 1e-5 * there.abs().max()
