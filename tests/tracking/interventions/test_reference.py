"""Reference values are means and draws of what hooks by hand see at real tokens."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.builders.closeness import assert_close
from tests.builders.decoders import in_training, norms_behind
from tests.builders.draws import arches
from tests.builders.generation import prompts
from tests.builders.prompt_pairs import make_pairs
from tests.builders.tokenizers import CHARACTERS
from tests.builders.untouched import assert_same, everything
from tracking.errors import BadInput
from tracking.interventions.intervene import intervene
from tracking.interventions.reference import Reference


def seen(model: Any, ids: Tensor) -> list[Tensor]:
    """z of both layers, then their MLPs' outputs, [position, feature], of one prompt."""
    z, mlps, hooks = [], [], []
    for block in model.model.layers:
        o, mlp = block.self_attn.o_proj, norms_behind(block)[1] or block.mlp
        hooks.append(o.register_forward_pre_hook(lambda _m, args: z.append(args[0][0])))
        hooks.append(mlp.register_forward_hook(lambda _m, _a, out: mlps.append(out[0])))
    with torch.no_grad():
        model(ids[None])
    for hook in hooks:
        hook.remove()
    return [*z, *mlps]


def one_by_one(model: Any, inputs: dict[str, Any]) -> list[list[Tensor]]:
    """What is seen, [prompt][part], of every prompt alone and without padding."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"].bool()
    return [seen(model, row[real]) for row, real in zip(ids, mask, strict=True)]


def parts(reference: Reference) -> list[Tensor]:
    return [*reference.z, *reference.mlp_outs]


def laid(inputs: dict[str, Any], side: str) -> dict[str, Any]:
    """The same prompts with their padding on `side`."""
    if side == "left":
        return inputs
    shifts = (inputs["attention_mask"] == 0).sum(-1).tolist()
    return {
        name: torch.stack([row.roll(-n) for row, n in zip(tensor, shifts, strict=True)])
        for name, tensor in inputs.items()
    }


@arches
@pytest.mark.parametrize("side", ["left", "right"])
def test_means_are_over_real_tokens_whatever_the_padding(tiny_decoder, arch, side: str) -> None:
    model, inputs = tiny_decoder(arch), prompts(20, 9)  # more than a pass takes
    each = one_by_one(model, inputs)
    overall = Reference.mean(model, **laid(inputs, side))
    placed = Reference.mean(model, **laid(inputs, side), per_position=True)
    for part, (mean, table) in enumerate(zip(parts(overall), parts(placed), strict=True)):
        wanted = torch.cat([prompt[part] for prompt in each]).mean(0)
        assert_close(mean[0, 0], wanted, 1e-5)
        assert_close(table[0, 9], wanted, 1e-5)  # beyond the longest prompt
        for place in range(9):
            here = [prompt[part][place] for prompt in each if len(prompt[part]) > place]
            assert_close(table[0, place], torch.stack(here).mean(0), 1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_draws_are_real_tokens_or_whole_prompts(tiny_decoder, side: str) -> None:
    model, inputs = tiny_decoder(), prompts(20, 9)
    each = one_by_one(model, inputs)
    tokens = [torch.cat([prompt[part] for prompt in each]) for part in range(4)]
    single = Reference.resample(model, **laid(inputs, side), draws=200)
    assert len(single.z[0]) == len(tokens[0])  # every one once
    few = Reference.resample(model, **laid(inputs, side), draws=10, seed=1)
    for draw in range(10):
        gaps = [(all_ - p[draw, 0]).abs().amax(-1) for all_, p in zip(tokens, parts(few))]  # noqa: B905
        assert len({int(gap.argmin()) for gap in gaps}) == 1  # one token for all nodes
        assert max(float(gap.min()) for gap in gaps) < 1e-5
    whole = Reference.resample(model, **laid(inputs, side), per_position=True, draws=6)
    for draw in range(6):
        fits = [
            prompt
            for prompt in each
            if torch.allclose(prompt[0][0], whole.z[0][draw, 0], atol=1e-5)
        ]
        matching = [
            prompt
            for prompt in fits
            if all(
                torch.allclose(part[draw, : len(mine)], mine, atol=1e-5)
                and torch.allclose(part[draw, len(mine) :], mine[-1:], atol=1e-5)
                for part, mine in zip(parts(whole), prompt, strict=True)
            )
        ]
        assert len(matching) >= 1


def test_draws_are_fixed_by_their_seed_and_can_be_given_to_rows(tiny_decoder) -> None:
    model, inputs = tiny_decoder(), prompts(20, 9)
    first = Reference.resample(model, **inputs, seed=1, draws=8)
    again = Reference.resample(model, **inputs, seed=1, draws=8)
    other = Reference.resample(model, **inputs, seed=2, draws=8)
    assert all(torch.equal(a, b) for a, b in zip(parts(first), parts(again), strict=True))
    assert not torch.equal(first.z[0], other.z[0])
    mine = first.rows(torch.tensor([3, 8, 3]))
    assert torch.equal(mine.mlp_outs[1], first.mlp_outs[1][[3, 0, 3]])


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_node_gives_the_values_of_its_own_position(tiny_decoder, side: str) -> None:
    model, inputs = tiny_decoder(), laid(prompts(5, 7), side)
    reference = Reference.mean(model, **prompts(9, 5, seed=1), per_position=True)
    given = []
    with intervene(model, ["M1"], "mean", reference):
        hook = model.model.layers[1].mlp.register_forward_hook(
            lambda _m, _a, out: given.append(out)
        )
        model(**inputs)
        model(input_ids=inputs["input_ids"])
        hook.remove()
    table = reference.mlp_outs[1][0]
    for row, real in zip(given[0], inputs["attention_mask"].bool(), strict=True):
        places = torch.arange(int(real.sum())).clamp(max=5)
        assert torch.equal(row[real], table[places])
    assert torch.equal(given[1][0], table[torch.arange(7).clamp(max=5)])


def test_prompts_come_from_pairs_or_a_tokenizer(tiny_decoder) -> None:
    model, pairs = tiny_decoder(vocabulary=120), make_pairs(ragged=True)
    assert Reference.mean(model, pairs.clean, pairs.attention_mask).mode == "mean"
    CHARACTERS.pad_token = "a"
    encoded = CHARACTERS(["one text", "and another"], padding=True, return_tensors="pt")
    ids, mask = encoded["input_ids"], encoded["attention_mask"]
    assert Reference.resample(model, ids, mask, draws=3).z[0].shape == (3, 1, 32)


def test_a_model_in_training_is_as_before(tiny_decoder) -> None:
    model = in_training(tiny_decoder, "qwen3")
    before = everything(model)
    Reference.mean(model, **prompts(), per_position=True)
    Reference.resample(model, **prompts())
    assert_same(before, everything(model))


@pytest.mark.parametrize(
    ("ids", "mask", "says"),
    [
        (torch.zeros(3, dtype=torch.long), None, r"\[row, position\]"),
        (torch.zeros(2, 3), None, "torch.float32"),
        (torch.full((2, 3), 50), None, "beyond the 50 tokens"),
        (torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 4), "attention_mask"),
        (torch.zeros(2, 3, dtype=torch.long), torch.tensor([[1, 1, 0], [0, 0, 0]]), "at least one"),
    ],
)
def test_prompts_that_are_none_are_refused(tiny_decoder, ids, mask, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        Reference.mean(tiny_decoder(), ids, mask)
    with pytest.raises(BadInput, match="draws is 0"):
        Reference.resample(tiny_decoder(), **prompts(), draws=0)
