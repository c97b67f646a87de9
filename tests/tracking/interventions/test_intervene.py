"""Nodes give factor x own + (1 - factor) x reference, everywhere the model runs."""

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.builders.closeness import assert_close
from tests.builders.decoders import in_training, norms_behind, with_adapter
from tests.builders.draws import arches, few, seeds
from tests.builders.generation import generated, prompts
from tests.builders.untouched import assert_same, everything
from tracking.errors import BadInput
from tracking.interventions.intervene import intervene
from tracking.interventions.reference import Reference

FACTORS = {"L0H1": 0.0, "L1H0": 0.5, "L1H3": -1.7, "M0": 0.25, "M1": 1.3}


@contextmanager
def by_hand(model: Any, change: Callable[[str, Tensor], Tensor]) -> Iterator[None]:
    """Every z and MLP output is what `change` makes of it, [row, position, head_dim or width]."""

    def o_hook(layer: int) -> Any:
        def hook(_module: Any, args: tuple) -> tuple:
            heads = args[0].unflatten(-1, (4, -1)).unbind(2)
            each = [change(f"L{layer}H{head}", z) for head, z in enumerate(heads)]
            return (torch.cat(each, dim=-1),)

        return hook

    with ExitStack() as stack:
        for layer, block in enumerate(model.model.layers):
            hooks = [
                block.self_attn.o_proj.register_forward_pre_hook(o_hook(layer)),
                (norms_behind(block)[1] or block.mlp).register_forward_hook(
                    lambda _m, _a, out, layer=layer: change(f"M{layer}", out)
                ),
            ]
            for hook in hooks:
                stack.callback(hook.remove)
        yield


def scaled(factors: dict[str, float]) -> Callable[[str, Tensor], Tensor]:
    return lambda node, own: own * factors.get(node, 1.0)


@torch.no_grad()
@arches
def test_scaling_is_what_hooks_by_hand_do(tiny_decoder, arch: str) -> None:
    model, inputs = tiny_decoder(arch), prompts()
    plain = model(**inputs).logits
    with by_hand(model, scaled(FACTORS)):
        wanted = model(**inputs).logits
    before = everything(model)
    with intervene(model, FACTORS):
        given_logits = model(**inputs).logits
    assert_same(before, everything(model))
    assert_close(given_logits, wanted, 1e-6)
    assert float((wanted - plain).abs().max()) > 0.1
    assert torch.equal(model(**inputs).logits, plain)


@arches
def test_zero_is_what_weights_without_the_columns_give(tiny_decoder, arch: str) -> None:
    model, inputs = tiny_decoder(arch), prompts()
    edited = copy.deepcopy(model)
    with torch.no_grad():
        edited.model.layers[0].self_attn.o_proj.weight[:, 2 * 8 : 3 * 8] = 0
        edited.model.layers[1].mlp.down_proj.weight.zero_()
    for factors in (["L0H2", "M1"], {"L0H2": 0, "M1": np.float32(0)}):
        with intervene(model, factors, mode="zero"):
            assert_close(model(**inputs).logits, edited(**inputs).logits, 1e-6)


@arches
@pytest.mark.parametrize("per_position", [False, True])
@pytest.mark.parametrize("mode", ["scale", "mean", "resample"])
def test_generation_with_a_cache_is_that_without_one(
    tiny_decoder, arch: str, mode: str, per_position: bool
) -> None:
    model, inputs = tiny_decoder(arch), prompts()
    reference = None
    if mode != "scale":
        make = getattr(Reference, mode)
        reference = make(model, **prompts(9, 9, seed=1), per_position=per_position)
    with intervene(model, FACTORS, mode, reference):
        cached = generated(model, inputs)
        slow = generated(model, inputs, use_cache=False)
    assert torch.equal(cached, slow)
    assert not torch.equal(cached, generated(model, inputs))


@pytest.mark.parametrize("mode", ["scale", "mean", "resample"])
def test_rows_of_a_batch_are_as_if_each_ran_alone(tiny_decoder, mode: str) -> None:
    model, inputs = tiny_decoder(), prompts(1)
    batch = {name: tensor.repeat(4, 1) for name, tensor in inputs.items()}
    reference = None
    if mode != "scale":
        reference = getattr(Reference, mode)(model, **prompts(5, seed=1), per_position=True)
    rows = [{}, {"L0H1": 0.0}, ["M1", "L1H1"], {"L0H1": 0.5, "L1H2": 2.0}]
    with intervene(model, rows, mode, reference):
        together = model(**batch).logits
        texts = generated(model, batch)
    for row, factors in enumerate(rows):
        mine = reference.rows(torch.tensor([row])) if reference else None
        with intervene(model, factors, mode, mine):
            assert_close(together[row], model(**inputs).logits[0], 1e-5)
            assert torch.equal(texts[row], generated(model, inputs)[0])


def test_sampled_rows_of_one_prompt_have_factors_of_their_own(tiny_decoder) -> None:
    model, inputs = tiny_decoder(), prompts(2)
    rows = [{}, {"M1": 0.0}, {"L0H0": 0.0}, {}]
    each = {name: t.repeat_interleave(2, 0) for name, t in inputs.items()}
    with torch.random.fork_rng([]), intervene(model, rows):
        torch.manual_seed(0)
        sampled = generated(model, inputs, do_sample=True, num_return_sequences=2)
        torch.manual_seed(0)
        assert torch.equal(sampled, generated(model, each, do_sample=True))


def test_a_batch_of_other_rows_is_refused(tiny_decoder) -> None:
    model = tiny_decoder()
    with intervene(model, [{"M0": 0.0}, {}]):
        with pytest.raises(BadInput, match="factors for 2 rows, and a batch of 3"):
            model(**prompts(3))
        with pytest.raises(BadInput, match="num_return_sequences"):
            generated(model, prompts(2), do_sample=True, num_return_sequences=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mode", ["scale", "mean"])
def test_a_factor_of_one_changes_not_one_bit(tiny_decoder, dtype: torch.dtype, mode: str) -> None:
    model, inputs = tiny_decoder().to(dtype), prompts()
    plain = model(**inputs).logits
    reference = Reference.mean(model, **inputs) if mode == "mean" else None
    ones = dict.fromkeys(("L0H0", "L1H2", "M1"), 1.0)
    with intervene(model, ones, mode, reference):
        assert torch.equal(model(**inputs).logits, plain)
    rows = [ones, {}, {"L0H1": 0.0, "M0": 0.3}, {}]
    with intervene(model, rows, mode, reference):
        mixed = model(**inputs).logits
    assert mixed.dtype == dtype and torch.equal(mixed[[0, 1, 3]], plain[[0, 1, 3]])
    assert not torch.equal(mixed[2], plain[2])


@few(8)
@given(seed=seeds, first=st.floats(-2, 2), second=st.floats(-2, 2))
def test_one_scale_within_another_is_their_product(
    tiny_decoder, seed: int, first: float, second: float
) -> None:
    model, inputs = tiny_decoder(seed=seed), prompts(seed=seed)
    outer, inner = {"L0H1": first, "M1": first}, {"L0H1": second, "M1": second}
    with intervene(model, outer), intervene(model, inner):
        nested = model(**inputs).logits
    with intervene(model, {"L0H1": first * second, "M1": first * second}):
        assert_close(nested, model(**inputs).logits, 1e-5)


@few(6)
@given(seed=seeds, first=st.floats(-2, 2), second=st.floats(-2, 2))
def test_one_mean_within_another_is_their_product_too(
    tiny_decoder, seed: int, first: float, second: float
) -> None:
    model, inputs = tiny_decoder(seed=seed), prompts(seed=seed)
    reference = Reference.mean(model, **prompts(seed=seed + 1))
    outer = intervene(model, {"L0H1": first}, "mean", reference)
    with outer, intervene(model, {"L0H1": second}, "mean", reference):
        nested = model(**inputs).logits
    with intervene(model, {"L0H1": first * second}, "mean", reference):
        assert_close(nested, model(**inputs).logits, 1e-5)


@pytest.mark.parametrize("mode", ["scale", "mean"])
def test_gradients_are_those_of_hooks_by_hand(tiny_decoder, mode: str) -> None:
    inputs = prompts()
    model, twin = tiny_decoder(seed=5), tiny_decoder(seed=5)
    values: dict[str, Tensor] = {}
    reference = None
    if mode == "mean":
        reference = Reference.mean(model, **prompts(seed=3))
        for layer, (z, mlp_out) in enumerate(zip(reference.z, reference.mlp_outs, strict=True)):
            values |= {f"L{layer}H{h}": v for h, v in enumerate(z[0].unflatten(-1, (4, -1))[0])}
            values[f"M{layer}"] = mlp_out[0, 0]

    def change(node: str, own: Tensor) -> Tensor:
        factor = FACTORS.get(node, 1.0)
        return own * factor + (1 - factor) * values.get(node, torch.zeros(()))

    with intervene(model, FACTORS, mode, reference):
        model(**inputs, labels=inputs["input_ids"]).loss.backward()
    with by_hand(twin, change):
        twin(**inputs, labels=inputs["input_ids"]).loss.backward()
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert mine.grad is not None and other.grad is not None
        assert_close(mine.grad, other.grad, 1e-4)


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing_changes_no_gradient(tiny_decoder, reentrant: bool) -> None:
    inputs, plain, thrifty = prompts(), tiny_decoder().train(), tiny_decoder().train()
    thrifty.gradient_checkpointing_enable({"use_reentrant": reentrant})
    thrifty.enable_input_require_grads()
    for model in (plain, thrifty):
        reference = Reference.resample(model, **prompts(seed=3), per_position=True)
        with intervene(model, FACTORS, "resample", reference):
            model(**inputs, labels=inputs["input_ids"]).loss.backward()
    for mine, other in zip(thrifty.parameters(), plain.parameters(), strict=True):
        assert_close(mine.grad, other.grad, 1e-5)


@arches
def test_a_model_in_training_is_as_before_also_after_a_failure(tiny_decoder, arch: str) -> None:
    model = in_training(tiny_decoder, arch)
    before = everything(model)
    with pytest.raises(KeyboardInterrupt), intervene(model, FACTORS):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        reference = Reference.resample(model, **prompts(), per_position=True)
        with intervene(model, FACTORS, "resample", reference), intervene(model, ["M1"]):
            raise KeyboardInterrupt
    with pytest.raises(BadInput), intervene(model, {"L0H0": 0.5, "L9H9": 1.0}):
        pass
    assert_same(before, everything(model))


@pytest.mark.filterwarnings("ignore")
def test_live_adapters_are_scaled_with_the_head(tiny_decoder) -> None:
    model, inputs = with_adapter(tiny_decoder(), 0).eval(), prompts()
    merged = copy.deepcopy(model).merge_and_unload()
    with intervene(model, FACTORS), intervene(merged, FACTORS):
        assert_close(model(**inputs).logits, merged(**inputs).logits, 1e-5)


@pytest.mark.parametrize(
    ("factors", "mode", "says"),
    [
        ({"L2H0": 0.0}, "scale", "no node 'L2H0'; heads are L0H0 to L1H3, MLPs M0 to M1"),
        (["embed"], "zero", "no node 'embed'"),
        ([{}, {"M2": 0.0}], "scale", "no node 'M2'"),
        ({"L0H0": float("nan")}, "scale", "factor of L0H0 is nan"),
        ({"L0H0": 1e39}, "scale", r"factor of L0H0 is 1e\+39"),
        ({"M1": "half"}, "scale", "factor of M1 is 'half'"),
        ({"L0H0": 0.0}, "median", "no mode 'median'; there are scale, zero, mean, resample"),
        ({"L0H0": 0.0}, "mean", "'mean' needs reference=Reference.mean"),
        ({"L0H0": 0.0}, "resample", "'resample' needs reference=Reference.resample"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_line(tiny_decoder, factors, mode, says) -> None:
    with pytest.raises(BadInput, match=says) as error, intervene(tiny_decoder(), factors, mode):
        pass
    assert "\n" not in str(error.value)


def test_a_reference_of_another_mode_or_model_is_refused(tiny_decoder) -> None:
    model, reference = tiny_decoder(), Reference.mean(tiny_decoder(), **prompts())
    for mode in ("scale", "resample"):
        refused = pytest.raises(BadInput, match="not a Reference of 'mean'")
        with refused, intervene(model, ["M0"], mode, reference):
            pass
    refused = pytest.raises(BadInput, match="the reference is of 2 layers")
    with refused, intervene(tiny_decoder(layers=3), ["M0"], "mean", reference):
        pass


def test_a_compiled_model_is_refused(tiny_decoder) -> None:
    model = tiny_decoder()
    wrapped = torch.compile(model, backend="eager")
    with pytest.raises(BadInput, match=r"torch.compile"), intervene(wrapped, ["M0"]):
        pass
    model.compile(backend="eager")
    with pytest.raises(BadInput, match=r"torch.compile"), intervene(model, ["M0"]):
        pass
