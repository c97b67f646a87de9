"""A head's change is that of its own slices, by hand, and of the weights that the model runs on."""

import copy
from typing import Any

import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from tests.builders.draws import arches
from tracking.errors import BadInput
from tracking.model.decoder import Decoder
from tracking.nodes.weight_change import snapshot, weight_change

COLUMNS = ["head", "q", "k", "v", "o", "change"]
DIM = 8  # head_dim of the tiny decoder: 4 query heads, 2 KV heads, 2 layers


def moved(frame: pd.DataFrame, column: str) -> list[str]:
    return list(frame["head"][frame[column] > 0])


def parts(model: Any, layer: int, head: int) -> dict[str, Tensor]:
    """The slow twin: a query head's four slices, cut out by hand."""
    attention = model.model.layers[layer].self_attn
    own, shared = (
        slice(DIM * head, DIM * (head + 1)),
        slice(DIM * (head // 2), DIM * (head // 2 + 1)),
    )
    return {
        "q": attention.q_proj.weight.data[own],
        "k": attention.k_proj.weight.data[shared],
        "v": attention.v_proj.weight.data[shared],
        "o": attention.o_proj.weight.data[:, own],
    }


@arches
def test_what_has_not_moved_is_exactly_0(tiny_decoder, arch: str) -> None:
    model = tiny_decoder(arch)
    frame = weight_change(model, snapshot(model))
    assert list(frame.columns) == COLUMNS
    assert list(frame["head"]) == list(Decoder.of(model).graph.head_names)
    assert (frame[COLUMNS[1:]] == 0).all(axis=None)


def test_changes_are_those_of_slices_cut_by_hand(tiny_decoder) -> None:
    model, other = tiny_decoder(seed=0), tiny_decoder(seed=1)
    frame = weight_change(other, snapshot(model))
    for i, name in enumerate(frame["head"]):
        before, now = parts(model, i // 4, i % 4), parts(other, i // 4, i % 4)
        squares = {n: float((now[n] - before[n]).square().sum()) for n in before}
        whole = {n: float(before[n].square().sum()) for n in before}
        for n in before:
            assert frame[n][i] == pytest.approx((squares[n] / whole[n]) ** 0.5, rel=1e-5), name
        wanted = (sum(squares.values()) / sum(whole.values())) ** 0.5
        assert frame["change"][i] == pytest.approx(wanted, rel=1e-5), name


@pytest.mark.parametrize(
    ("projection", "rows", "heads"),
    [
        ("q", slice(DIM, 2 * DIM), ["L1H1"]),
        ("k", slice(0, DIM), ["L1H0", "L1H1"]),
        ("v", slice(DIM, 2 * DIM), ["L1H2", "L1H3"]),
        ("o", slice(3 * DIM, 4 * DIM), ["L1H3"]),
    ],
)
def test_a_slice_belongs_to_its_query_heads(
    tiny_decoder, projection: str, rows: slice, heads: list[str]
) -> None:
    model = tiny_decoder()
    base = snapshot(model)
    weight = getattr(model.model.layers[1].self_attn, f"{projection}_proj").weight.data
    (weight.T if projection == "o" else weight)[rows] *= 1.5
    frame = weight_change(model, base)
    for column in ("q", "k", "v", "o"):
        assert moved(frame, column) == (heads if column == projection else [])
    assert moved(frame, "change") == heads
    assert frame[projection].max() == pytest.approx(0.5, rel=1e-5)
    assert 0 < frame["change"].max() < 0.5


def test_a_snapshot_does_not_move_with_the_model(tiny_decoder) -> None:
    model = tiny_decoder()
    base = snapshot(model)
    for parameter in model.parameters():
        parameter.data *= 2
    assert weight_change(model, base)["change"].tolist() == pytest.approx([1.0] * 8, rel=1e-5)


def test_a_snapshot_is_float32_whatever_the_model(tiny_decoder) -> None:
    model = tiny_decoder().to(torch.bfloat16)
    base = snapshot(model)
    assert {w.dtype for w in (*base.q, *base.k, *base.v, *base.o)} == {torch.float32}
    assert (weight_change(model, base)["change"] == 0).all()


def test_a_slice_of_zeros_has_not_changed_until_it_has(tiny_decoder) -> None:
    model = tiny_decoder()
    weight = model.model.layers[0].self_attn.q_proj.weight.data
    weight[:DIM] = 0
    base = snapshot(model)
    assert weight_change(model, base)["q"][0] == 0
    weight[:DIM] = 1
    assert weight_change(model, base)["q"][0] == float("inf")


def test_adapters_change_a_model_as_if_they_were_merged(tiny_decoder) -> None:
    plain = tiny_decoder()
    base = snapshot(plain)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        model = get_peft_model(plain, config)
    assert snapshot(model).k[0].equal(base.k[0]) and not snapshot(model).q[0].equal(base.q[0])
    frame = weight_change(model, base)
    merged = weight_change(copy.deepcopy(model).merge_and_unload(), base)  # type: ignore[operator]
    assert (frame[["k", "o"]] == 0).all(axis=None) and (frame[["q", "v"]] > 0).all(axis=None)
    pd.testing.assert_frame_equal(frame, merged, rtol=1e-4)
    with model.disable_adapter():
        assert (weight_change(model, base)["change"] == 0).all()


def test_adapters_as_they_begin_have_changed_nothing(tiny_decoder) -> None:
    plain = tiny_decoder()
    base = snapshot(plain)
    with torch.random.fork_rng([]):
        model = get_peft_model(plain, LoraConfig(r=4, target_modules="all-linear"))
    assert (weight_change(model, base)["change"] == 0).all()


def test_another_model_s_snapshot_is_refused(tiny_decoder) -> None:
    with pytest.raises(BadInput, match="base has 3 layers; the model has 2"):
        weight_change(tiny_decoder(), snapshot(tiny_decoder(layers=3)))
    with pytest.raises(BadInput, match=r"q_proj of layer 0 is \[32, 64\] in base"):
        weight_change(tiny_decoder(), snapshot(tiny_decoder(width=64)))
