"""Matched sets have the number, and the layers or the write norms, of the heads beside them."""

from collections import Counter
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.closeness import assert_close
from tests.builders.decoders import in_training, norms_behind
from tests.builders.draws import arches, few, seeds
from tests.builders.generation import prompts
from tests.builders.untouched import assert_same, everything
from tracking.errors import BadInput
from tracking.interventions.matched import matched_by_layer, matched_by_norm, write_norms
from tracking.model.graph import Graph

GRAPH = Graph(4, 6)
HEADS = GRAPH.head_names
subsets = st.sets(st.sampled_from(HEADS), min_size=1)


def layers(heads) -> Counter:
    return Counter(head[1] for head in heads)


@few(60)
@given(heads=subsets, pool=subsets, count=st.integers(1, 12), seed=seeds)
def test_sets_by_layer_are_as_large_and_lie_as_near_as_can_be(heads, pool, count, seed) -> None:
    rest = pool - heads
    if len(rest) < len(heads):
        with pytest.raises(BadInput, match="fewer than"):
            matched_by_layer(GRAPH, heads, pool, count, seed)
        return
    matched = matched_by_layer(GRAPH, heads, pool, count, seed)
    assert matched == matched_by_layer(GRAPH, heads, pool, count, seed)
    assert 1 <= len(matched.sets) <= matched.asked == count
    assert len({frozenset(each) for each in matched.sets}) == len(matched.sets)
    missing = layers(heads) - layers(rest)
    assert matched.moved == missing.total()
    for each in matched.sets:
        assert len(each) == len(set(each)) == len(heads) and set(each) <= rest
        assert (layers(heads) - layers(each)).total() == matched.moved


def test_all_sets_are_drawn_where_fewer_are_possible_than_asked_for() -> None:
    matched = matched_by_layer(GRAPH, ["L0H0", "L2H1"], ["L0H1", "L0H3", "L2H0", "L2H5"], 20)
    wanted = {(first, second) for first in ("L0H1", "L0H3") for second in ("L2H0", "L2H5")}
    assert set(matched.sets) == wanted and matched.asked == 20 and matched.moved == 0


def test_heads_that_a_layer_lacks_come_from_the_nearest() -> None:
    pool = ["L0H5", "L1H0", "L1H1", "L3H3"]
    matched = matched_by_layer(GRAPH, ["L2H0", "L1H4"], pool, 50)
    assert set(matched.sets) == {("L1H0", "L1H1"), ("L1H0", "L3H3"), ("L1H1", "L3H3")}
    assert matched.moved == 1  # never L0H5, and layer 1's own need comes first


@few(30)
@given(heads=subsets, pool=subsets, nearest=st.integers(1, 4), seed=seeds)
def test_sets_by_norm_pair_every_head_with_one_near_it(heads, pool, nearest, seed) -> None:
    rest = pool - heads
    if len(rest) < len(heads):
        return
    norms = pd.Series(np.random.default_rng(seed).random(24), index=HEADS)
    matched = matched_by_norm(norms, heads, pool, 5, seed, nearest)
    for each in matched.sets:
        assert len(each) == len(set(each)) == len(heads) and set(each) <= rest
    wanted = sum(norms[list(each)].sum() for each in matched.sets) / len(matched.sets)
    assert matched.norm_ratio == pytest.approx(wanted / norms[list(heads)].sum())
    if len(heads) == 1:
        (head,) = heads
        gaps = (norms[sorted(rest)] - norms[head]).abs().sort_values()
        assert {each[0] for each in matched.sets} <= set(gaps.index[:nearest])


def test_a_loud_head_is_not_matched_with_a_quiet_one() -> None:
    norms = pd.Series([1.0] * 6 + [5.0] * 6 + [1.1] * 6 + [4.9] * 6, index=HEADS)
    matched = matched_by_norm(norms, ["L1H0", "L1H1"], HEADS, 20)
    assert {head[:2] for each in matched.sets for head in each} <= {"L1", "L3"}
    assert matched.norm_ratio == pytest.approx(1, abs=0.03)
    quiet = matched_by_norm(norms, ["L1H0"], HEADS[:6], 3)
    assert quiet.norm_ratio == pytest.approx(0.2)


@arches
def test_write_norms_are_those_of_single_heads_output(tiny_decoder, arch: str) -> None:
    model, inputs = tiny_decoder(arch), prompts(20, 9)
    norms = write_norms(model, **inputs)
    sums = torch.zeros(2, 4)
    for ids, real in zip(inputs["input_ids"], inputs["attention_mask"].bool(), strict=True):
        for layer, block in enumerate(model.model.layers):
            o, seen = block.self_attn.o_proj, []
            hook = o.register_forward_pre_hook(lambda _m, args, seen=seen: seen.append(args[0][0]))
            model(ids[real][None])
            hook.remove()
            behind, given = norms_behind(block)[0], o(seen[0])
            share = behind(given) / given if behind else torch.ones_like(given)
            for head in range(4):
                own = torch.zeros_like(seen[0])
                own[:, head * 8 : head * 8 + 8] = seen[0][:, head * 8 : head * 8 + 8]
                sums[layer, head] += (o(own) * share).norm(dim=-1).sum().detach()
    wanted = (sums / inputs["attention_mask"].sum()).flatten()
    assert tuple(norms.index) == Graph(2, 4).head_names
    assert_close(torch.tensor(norms.to_numpy()).float(), wanted, 1e-5)


def test_a_model_in_training_is_as_before(tiny_decoder) -> None:
    model = in_training(tiny_decoder, "qwen2")
    before = everything(model)
    write_norms(model, **prompts())
    assert_same(before, everything(model))


def test_what_cannot_be_matched_is_refused() -> None:
    with pytest.raises(BadInput, match="no head 'M0'; heads are L0H0 to L3H5"):
        matched_by_layer(GRAPH, ["M0"], HEADS, 3)
    with pytest.raises(BadInput, match="no head 'L4H0'"):
        matched_by_layer(GRAPH, ["L0H0"], ["L4H0"], 3)
    for heads, count in (([], 3), (["L0H0"], 0)):
        with pytest.raises(BadInput, match="both must be at least 1"):
            matched_by_layer(GRAPH, heads, HEADS, count)
    norms = pd.Series(1.0, index=list(HEADS[:3]))
    with pytest.raises(BadInput, match="no head 'L1H0'; heads are L0H0 to L0H2"):
        matched_by_norm(norms, ["L0H0"], ["L0H1", "L1H0"], 3)
    with pytest.raises(BadInput, match="nearest is 0"):
        matched_by_norm(norms, ["L0H0"], ["L0H1"], 3, nearest=0)


def test_every_set_of_a_layer_is_as_likely() -> None:
    drawn = Counter(
        matched_by_layer(GRAPH, ["L0H0", "L0H1"], HEADS, 1, seed).sets[0] for seed in range(600)
    )
    assert set(drawn) == set(combinations(HEADS[2:6], 2))
    assert max(drawn.values()) < 150  # 100 each, and a deviation of about 9
