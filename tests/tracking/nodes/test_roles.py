"""Patterns made by hand have the scores that their names promise; a pass leaves nothing behind."""

import copy
import math
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from tests.builders.draws import arches
from tests.builders.paddings import AFTER, BEFORE
from tracking.errors import BadInput
from tracking.model.adapters import unwrap
from tracking.model.decoder import Decoder
from tracking.nodes import roles as module
from tracking.nodes.patterns import (
    copying,
    digits,
    duplicate_token,
    entropy,
    first_token,
    induction,
    kurtosis,
    previous_token,
)
from tracking.nodes.role_words import Roles
from tracking.nodes.roles import roles
from tracking.pairs.prompt_pairs import PromptPairs

# Roles


def roles_of(**scores: list[float]) -> Roles:
    count = len(next(iter(scores.values())))
    names = [name for name in Roles.__dataclass_fields__ if name != "heads"]
    tensors = {name: torch.tensor(scores.get(name, [0.0] * count)) for name in names}
    return Roles(heads=tuple(f"L0H{i}" for i in range(count)), **tensors)


def test_the_main_role_is_the_one_furthest_beyond_its_threshold() -> None:
    result = roles_of(
        induction=[0.9, 0.39, 0.4, math.nan, 0.0],
        copying=[0.3, 0.0, 0.0, 1.0, 0.0],
        digits=[1.0, 0.5, 0.0, 1.0, 0.0],
        previous_token=[0.0, 0.0, 0.9, 0.0, 0.0],
        kurtosis=[9.0, 9.0, 9.0, 9.0, 9.0],
        entropy=[1.0, 1.0, 1.0, 1.0, 1.0],
    )
    assert result.main == ["digits", "-", "previous token", "copying", "-"]


def test_the_frame_has_one_row_a_head() -> None:
    result = roles_of(induction=[0.9, 0.0])
    frame = result.frame()
    assert frame.columns[0] == "head" and frame.columns[-1] == "main"
    assert list(frame.columns[1:-1]) == list(result.scores)
    assert list(frame["head"]) == ["L0H0", "L0H1"] and list(frame["main"]) == ["induction", "-"]
    assert frame["induction"].tolist() == pytest.approx([0.9, 0])


# The pass


def attentions(model: Any, tokens: Tensor, mask: Tensor, **more: Any) -> Tensor:
    """The slow twin: all layers' patterns by Hugging Face's own flag."""
    model = copy.deepcopy(model).eval()
    unwrap(model).set_attn_implementation("eager")
    with torch.no_grad():
        out = model(tokens, attention_mask=mask, output_attentions=True, **more)
    return torch.cat(out.attentions, dim=1)


def same(result: Tensor, wanted: Tensor) -> bool:
    return torch.allclose(result, wanted, atol=1e-5, equal_nan=True)


@arches
def test_scores_are_those_of_the_model_s_own_attention(
    tiny_decoder, random_pairs, arch: str
) -> None:
    model, pairs = tiny_decoder(arch), random_pairs(ragged=True, looks=2)
    digit_ids = torch.arange(20)
    result = roles(model, pairs, digit_ids)
    real, looks = pairs.attention_mask.bool(), pairs.supervised
    seen = attentions(model, pairs.clean, pairs.attention_mask)
    assert result.heads == Decoder.of(model).graph.head_names and seen.shape[1] == len(result.heads)
    right = pairs.labels[:, 0]
    assert same(result.previous_token, previous_token(seen, real).value)
    assert same(result.first_token, first_token(seen, real).value)
    assert same(result.copying, copying(seen, pairs.clean, real, looks, right).value)
    assert same(result.digits, digits(seen, real, looks, pairs.clean < 20).value)
    assert same(result.entropy, entropy(seen, real).value)
    assert same(result.kurtosis, kurtosis(seen, real).value)
    for name, score in result.scores.items():
        assert score.dtype == torch.float32 and score.shape == (len(result.heads),), name
        assert bool(score.isfinite().all()), name


def test_batches_of_any_size_tell_the_same(tiny_decoder, random_pairs) -> None:
    model, pairs, digit_ids = tiny_decoder(), random_pairs(ragged=True), torch.arange(20)
    wanted = roles(model, pairs, digit_ids)
    for batch_size in (1, len(pairs) - 1):
        result = roles(model, pairs, digit_ids, batch_size=batch_size)
        for name, score in wanted.scores.items():
            assert same(result.scores[name], score), name


def test_padding_on_either_side_is_alike(tiny_decoder, random_pairs) -> None:
    whole = random_pairs(length=6)
    for left, right in (BEFORE, AFTER):

        def pad(tensor: Tensor, fill: int = 0, sides: tuple[int, int] = (left, right)) -> Tensor:
            return nn.functional.pad(tensor, sides, value=fill)

        beside = PromptPairs(
            # the last row fills all columns; without it they are trimmed
            torch.cat([pad(whole.clean, 7), torch.full((1, 9), 3)]),
            torch.cat([pad(whole.corrupted, 9), torch.full((1, 9), 4)]),
            torch.cat([pad(whole.attention_mask), torch.ones(1, 9, dtype=torch.long)]),
            torch.cat([whole.labels, whole.labels[:1]]),
            torch.cat([pad(whole.supervised), (torch.arange(9) == 8)[None]]),
        )
        model, digit_ids = tiny_decoder(), torch.arange(20)
        wanted, result = roles(model, whole, digit_ids), roles(model, beside, digit_ids, limit=5)
        for name, score in wanted.scores.items():
            assert same(result.scores[name], score), name
        # beside the longer pair nothing is trimmed: against positions counted by the model itself
        mixed = beside[[0, 5]]
        seen = attentions(
            model,
            mixed.clean,
            mixed.attention_mask,
            position_ids=(mixed.attention_mask.cumsum(-1) - 1).clamp(min=0),
        )
        real = mixed.attention_mask.bool()
        assert same(roles(model, mixed).previous_token, previous_token(seen, real).value)
        assert same(roles(model, mixed).entropy, entropy(seen, real).value)


def test_what_the_pairs_cannot_tell_is_nan(tiny_decoder, random_pairs) -> None:
    result = roles(tiny_decoder(), random_pairs(labels=False))
    assert bool(result.copying.isnan().all()) and bool(result.digits.isnan().all())
    assert not bool(result.induction.isnan().any())
    assert len(result.main) == len(result.heads)


def test_only_the_first_pairs_are_read(tiny_decoder, random_pairs) -> None:
    model, pairs = tiny_decoder(), random_pairs(pairs=5)
    first = roles(model, pairs, limit=2)
    assert torch.equal(first.entropy, roles(model, pairs[:2]).entropy)
    assert not torch.equal(first.entropy, roles(model, pairs).entropy)
    with pytest.raises(BadInput, match="limit is 0"):
        roles(model, pairs, limit=0)


def test_repeated_tokens_are_by_seed_and_each_twice(tiny_decoder, random_pairs) -> None:
    model, pairs = tiny_decoder(), random_pairs()
    once, again, other = (roles(model, pairs, seed=seed).induction for seed in (0, 0, 1))
    assert torch.equal(once, again) and not torch.equal(once, other)
    tokens = module._repeated(torch.arange(50), seed=3)
    assert tokens.shape == (module.REPEATED_ROWS, 2 * module.REPEATED_LENGTH)
    for drawn in tokens.tolist():
        half = drawn[: module.REPEATED_LENGTH]
        assert drawn == half * 2 and len(set(half)) == len(half)
    real = torch.ones_like(tokens, dtype=torch.bool)
    seen = attentions(model, tokens, real.long())
    assert same(roles(model, pairs, seed=3).induction, induction(seen, tokens, real).value)
    assert same(
        roles(model, pairs, seed=3).duplicate_token, duplicate_token(seen, tokens, real).value
    )


def test_few_ids_in_the_pairs_are_all_that_is_drawn_from(tiny_decoder, random_pairs) -> None:
    decoder = Decoder.of(tiny_decoder())
    assert module._drawn_from(decoder, torch.tensor([[4, 8], [8, 3]])).tolist() == [3, 4, 8]
    assert module._drawn_from(decoder, torch.arange(19)).tolist() == list(range(19))
    assert module._drawn_from(decoder, torch.arange(20)).tolist() == list(range(50))
    few = random_pairs(vocabulary=6)
    assert bool(roles(tiny_decoder(), few).induction.isfinite().all())


def test_a_head_without_a_query_attends_evenly(tiny_decoder, random_pairs) -> None:
    model = tiny_decoder("llama")
    attention = model.model.layers[0].self_attn
    attention.q_proj.weight.data[:8] = 0
    result = roles(model, random_pairs())
    assert float(result.entropy[0]) == pytest.approx(1)
    assert result.main[0] == "-"


# Nothing is left behind


def everything(model: Any) -> tuple:
    causal = unwrap(model)
    return (
        causal.config._attn_implementation,
        [m.training for m in model.modules()],
        [(p.requires_grad, p.grad is None) for p in model.parameters()],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        torch.get_rng_state().tolist(),
        [p.detach().clone() for p in model.parameters()],
    )


def assert_untouched(before: tuple, model: Any) -> None:
    after = everything(model)
    assert after[:-1] == before[:-1]
    assert all(torch.equal(a, b) for a, b in zip(after[-1], before[-1], strict=True))


@pytest.mark.parametrize("contrast", ["sdpa", "eager"])
@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_as_before(tiny_decoder, random_pairs, contrast: str, training: bool) -> None:
    model = tiny_decoder(attention_dropout=0.5)
    model.set_attn_implementation(contrast)
    model.train(training)
    model.model.layers[1].eval()  # a mixed mode is kept too
    model.model.layers[0].mlp.up_proj.weight.requires_grad_(False)
    before = everything(model)
    result = roles(model, random_pairs())
    assert_untouched(before, model)
    assert torch.equal(result.entropy, roles(model.eval(), random_pairs()).entropy)


@pytest.mark.parametrize("contrast", ["sdpa", "eager"])
def test_the_model_is_as_before_after_an_exception(
    tiny_decoder, random_pairs, contrast: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_decoder().train()
    model.set_attn_implementation(contrast)
    before = everything(model)

    def fails(*_: Any) -> Tensor:
        assert model.config._attn_implementation == "eager"
        assert not model.model.training
        raise RuntimeError("out of memory")

    monkeypatch.setattr(module, "entropy", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        roles(model, random_pairs())
    assert_untouched(before, model)


def test_pairs_of_another_vocabulary_are_refused(tiny_decoder, random_pairs) -> None:
    model = tiny_decoder(vocabulary=20)
    before = everything(model)
    with pytest.raises(BadInput, match="token id"):
        roles(model, random_pairs())
    assert_untouched(before, model)


def test_live_adapters_count_as_if_merged(tiny_decoder, random_pairs) -> None:
    base, pairs = tiny_decoder(), random_pairs()
    bare = roles(base, pairs)
    config = LoraConfig(
        r=4, target_modules=["q_proj", "k_proj"], init_lora_weights=False, lora_dropout=0.5
    )
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = get_peft_model(base, config).train()
    before = everything(model)
    result = roles(model, pairs)
    assert_untouched(before, model)
    merged = roles(copy.deepcopy(model).merge_and_unload(), pairs)  # type: ignore[operator]
    assert torch.allclose(result.entropy, merged.entropy, atol=1e-4)
    assert torch.allclose(result.induction, merged.induction, atol=1e-4)
    assert not torch.allclose(result.entropy, bare.entropy, atol=1e-3)
