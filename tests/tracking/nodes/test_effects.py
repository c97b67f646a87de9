"""Effects of nodes are what whole passes with that node replaced say."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.closeness import assert_close
from tests.builders.decoders import VARIANTS, in_training, with_adapter
from tests.builders.draws import METRICS, arches, few, seeds, sides
from tests.builders.node_patching import by_brute_force
from tests.builders.planted import COPY, planted
from tests.builders.planted import pairs as planted_pairs
from tests.builders.prompt_pairs import repadded
from tests.builders.untouched import assert_same, everything
from tracking import BadInput, PromptPairs, effects
from tracking.attribution.metrics import METRICS as BY_NAME
from tracking.attribution.metrics import neg_logit_diff
from tracking.model.decoder import Decoder
from tracking.model.ends import AllEnds
from tracking.nodes.effects import NodeEffects, node_effects, surely_within, together


def all_effects(model, pairs: PromptPairs, metric: str = "neg_logit_diff", batch_size: int = 3):
    decoder = Decoder.of(model)
    nodes = torch.ones(len(decoder.graph.nodes), dtype=torch.bool)
    return node_effects(AllEnds.of(decoder, pairs, batch_size), nodes, BY_NAME[metric])


def assert_as_by_brute_force(
    result: NodeEffects, model, pairs: PromptPairs, metric: str = "neg_logit_diff"
) -> None:
    sets = [[node] for node in Decoder.of(model).graph.nodes]
    corrupt, restore, behaviour = by_brute_force(model, pairs, sets, metric)
    # beside the largest node: each is a difference of losses that are as large
    assert_close(result.corrupt, corrupt)
    assert_close(result.restore, restore)
    assert_close(result.behaviour, behaviour)


def test_golden_models_have_the_effects_of_whole_passes(golden) -> None:
    assert_as_by_brute_force(all_effects(golden.model, golden.pairs), golden.model, golden.pairs)


CASES = [(arch, variant) for arch, variants in VARIANTS.items() for variant in variants]


@pytest.mark.parametrize(("arch", "variant"), CASES, ids=str)
@few(1)
@given(seed=seeds, side=sides, looks=st.integers(1, 3), batch_size=st.integers(1, 4))
def test_every_architecture_has_the_effects_of_whole_passes(
    tiny_decoder, random_pairs, arch: str, variant: dict, seed: int, side: str, looks: int,
    batch_size: int,
) -> None:  # fmt: skip
    model = tiny_decoder(arch, layers=3, seed=seed, **variant)
    pairs = random_pairs(ragged=True, side=side, looks=looks, seed=seed)
    result = all_effects(model, pairs, batch_size=batch_size)
    assert_as_by_brute_force(result, model, pairs)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_has_the_effects_of_whole_passes(
    tiny_decoder, random_pairs, metric: str
) -> None:
    model, pairs = tiny_decoder(), random_pairs(ragged=True, looks=3)
    assert_as_by_brute_force(all_effects(model, pairs, metric), model, pairs, metric)


@arches
def test_live_adapters_have_the_effects_of_whole_passes(
    tiny_decoder, random_pairs, arch: str
) -> None:
    pairs, base = random_pairs(ragged=True), tiny_decoder(arch)
    bare = all_effects(base, pairs)
    model = with_adapter(base, seed=0).eval()
    result = all_effects(model, pairs)
    assert_as_by_brute_force(result, model, pairs)
    assert float((result.corrupt - bare.corrupt).abs().max()) > 0.05 * float(bare.corrupt.max())


def test_the_planted_head_has_all_of_the_behaviour_and_no_other_any() -> None:
    table = effects(planted(noise=0.01), planted_pairs()).set_index("node")
    for share in ("corrupt_share", "restore_share"):
        assert table.loc[COPY, share] == pytest.approx(1, abs=1e-5)
        assert table.drop(index=COPY)[share].abs().max() < 1e-5
        assert (table[f"{share}_high"] - table[f"{share}_low"]).max() < 1e-5


@few(6)
@given(gain=st.floats(0.1, 30), seed=seeds)
def test_a_gain_on_all_logits_leaves_shares_as_they_are(
    tiny_decoder, random_pairs, gain: float, seed: int
) -> None:
    model = tiny_decoder(seed=seed)
    pairs = with_behaviour(model, random_pairs(pairs=8, seed=seed))
    before = effects(model, pairs).set_index("node")
    model.model.norm.weight.data *= gain
    after = effects(model, pairs).set_index("node")
    for name in before:
        scale = 1 if "share" in str(name) else gain
        result, wanted = (torch.tensor(table[name].to_numpy()) for table in (after, before))
        assert_close(result / scale, wanted, 1e-4)


def with_behaviour(model, pairs: PromptPairs) -> PromptPairs:
    """The same with the labels that the model prefers, clean against corrupted."""
    has = all_effects(model, pairs).behaviour[:, None] > 0
    assert pairs.labels is not None
    labels = torch.where(has, pairs.labels, pairs.labels.flip(1))
    return PromptPairs(pairs.clean, pairs.corrupted, labels=labels)


@few(4)
@given(seed=seeds, first=st.integers(1, 7), second=st.integers(1, 7), side=sides)
def test_batches_and_padding_do_not_matter(
    tiny_decoder, random_pairs, seed: int, first: int, second: int, side: str
) -> None:
    model, pairs = tiny_decoder(seed=seed), random_pairs(ragged=True, looks=2, seed=seed)
    one = all_effects(model, pairs, batch_size=first)
    two = all_effects(model, repadded(pairs, side, 3, seed), batch_size=second)
    for result, wanted in ((one.corrupt, two.corrupt), (one.restore, two.restore)):
        assert_close(result, wanted)


@few(4)
@given(seed=seeds, data=st.data())
def test_nodes_together_have_the_effect_of_whole_passes(
    tiny_decoder, random_pairs, seed: int, data: st.DataObject
) -> None:
    model, pairs = tiny_decoder("qwen3", seed=seed), random_pairs(ragged=True, seed=seed)
    decoder = Decoder.of(model)
    names = decoder.graph.nodes
    chosen = data.draw(st.sets(st.sampled_from(names), min_size=1))
    other = data.draw(st.sets(st.sampled_from(names), min_size=1))
    sets = torch.tensor([[name in some for name in names] for some in (chosen, other)])
    corrupt, restore = together(AllEnds.of(decoder, pairs, 2), sets, neg_logit_diff)
    wanted = by_brute_force(model, pairs, [sorted(chosen), sorted(other)])
    assert_close(corrupt, wanted[0])
    assert_close(restore, wanted[1])


def test_one_node_together_has_its_own_effect(tiny_decoder, random_pairs) -> None:
    model, pairs = tiny_decoder(), random_pairs(ragged=True)
    decoder, alone = Decoder.of(model), all_effects(model, pairs)
    each = torch.eye(len(decoder.graph.nodes)).bool()
    corrupt, restore = together(AllEnds.of(decoder, pairs, 4), each, neg_logit_diff)
    assert torch.allclose(corrupt, alone.corrupt, atol=1e-4)
    assert torch.allclose(restore, alone.restore, atol=1e-4)


@few(6)
@given(st.data())
def test_some_nodes_have_the_effects_they_have_among_all(
    tiny_decoder, random_pairs, data: st.DataObject
) -> None:
    model, pairs = tiny_decoder(), random_pairs()
    decoder, full = Decoder.of(model), all_effects(model, pairs)
    count = len(decoder.graph.nodes)
    nodes = torch.tensor(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    some = node_effects(AllEnds.of(decoder, pairs, 3), nodes, neg_logit_diff)
    for result, wanted in ((some.corrupt, full.corrupt), (some.restore, full.restore)):
        assert bool(result[:, ~nodes].isnan().all())
        assert torch.allclose(result[:, nodes], wanted[:, nodes], atol=1e-4)


@arches
def test_a_model_in_training_is_as_before(tiny_decoder, random_pairs, arch: str) -> None:
    model, pairs = in_training(tiny_decoder, arch), random_pairs(ragged=True)
    layers, before = list(model.model.layers), everything(model)
    result = all_effects(model, pairs)
    decoder = Decoder.of(model)
    nodes = torch.ones(1, len(decoder.graph.nodes), dtype=torch.bool)
    together(AllEnds.of(decoder, pairs, 2), nodes, neg_logit_diff)
    assert_same(before, everything(model))
    assert list(model.model.layers) == layers
    calm = all_effects(tiny_decoder(arch, attention_dropout=0.5, seed=3), pairs)
    assert_close(result.corrupt, calm.corrupt)


@pytest.mark.parametrize("calls", [0, 2, 3, 9])
def test_a_model_is_as_before_when_the_metric_fails(tiny_decoder, random_pairs, calls: int) -> None:
    model, left = in_training(tiny_decoder, "qwen3"), calls

    def failing(logits, clean_logits, pairs):
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        return logits.sum((-1, -2))

    layers, before = list(model.model.layers), everything(model)
    with pytest.raises(KeyboardInterrupt):
        effects(model, random_pairs(), metric=failing)
    assert_same(before, everything(model))
    assert list(model.model.layers) == layers


def test_autocast_around_an_analysis_changes_nothing(tiny_decoder, random_pairs) -> None:
    model, pairs = tiny_decoder(), random_pairs()
    wanted = all_effects(model, pairs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(all_effects(model, pairs).corrupt, wanted.corrupt)


def test_half_precision_is_near_full_precision(tiny_decoder, random_pairs) -> None:
    model, pairs = tiny_decoder(), random_pairs(pairs=16)
    wanted = all_effects(model, pairs)
    result = all_effects(model.to(torch.bfloat16), pairs)
    assert result.corrupt.dtype == torch.float32
    assert_close(result.corrupt.mean(0), wanted.corrupt.mean(0), 0.1)
    assert_close(result.restore.mean(0), wanted.restore.mean(0), 0.1)


# Nodes that few pairs decide


def test_a_node_without_effect_sees_a_first_part_of_the_pairs() -> None:
    decoder, pairs = Decoder.of(planted()), planted_pairs(160)
    nodes = torch.ones(len(decoder.graph.nodes), dtype=torch.bool)
    full = node_effects(AllEnds.of(decoder, pairs, 8), nodes, neg_logit_diff)
    thrifty = node_effects(AllEnds.of(decoder, pairs, 8), nodes, neg_logit_diff, least=0.05)
    copies = torch.tensor([node == COPY for node in decoder.graph.nodes])
    assert torch.allclose(thrifty.behaviour, full.behaviour, atol=1e-3)
    for result, wanted in ((thrifty.corrupt, full.corrupt), (thrifty.restore, full.restore)):
        seen = ~result.isnan()
        assert bool(seen[:, copies].all())
        assert seen[:, ~copies].sum(0).tolist() == [40] * (len(nodes) - 1)
        assert torch.allclose(result[seen], wanted[seen], atol=0.01)


def test_few_pairs_are_seen_by_every_node() -> None:
    decoder = Decoder.of(planted())
    nodes = torch.ones(len(decoder.graph.nodes), dtype=torch.bool)
    result = node_effects(AllEnds.of(decoder, planted_pairs(32), 8), nodes, neg_logit_diff, 0.05)
    assert not bool(result.corrupt.isnan().any() or result.restore.isnan().any())


@few(4)
@given(seed=seeds, least=st.sampled_from([1.0, 2.0]))
def test_only_nodes_whose_shares_are_small_are_left(
    tiny_decoder, random_pairs, seed: int, least: float
) -> None:
    model = tiny_decoder(seed=seed)
    pairs = with_behaviour(model, random_pairs(pairs=100, seed=seed))
    decoder, full = Decoder.of(model), all_effects(model, pairs, batch_size=25)
    nodes = torch.ones(len(decoder.graph.nodes), dtype=torch.bool)
    result = node_effects(AllEnds.of(decoder, pairs, 25), nodes, neg_logit_diff, least)
    left = result.corrupt.isnan().any(0)
    assert torch.equal(left, result.restore.isnan().any(0))
    for effect in (full.corrupt, full.restore):
        shares = effect.mean(0) / full.behaviour.mean()
        assert bool((shares[left].abs() < least).all())


def test_a_small_share_is_left_almost_never_where_it_is_not_small() -> None:
    generator = torch.Generator().manual_seed(0)
    behaviour = 3 + torch.randn(32, generator=generator)
    shares = torch.tensor([0.1, -0.1, 0.05, -0.05, 0.0]).repeat_interleave(2000)
    noise = torch.randn(32, len(shares), generator=generator)
    effect = shares * behaviour[:, None] + 0.05 * noise
    left = surely_within(effect, behaviour, 0.05).view(5, -1).float().mean(1)
    assert left[:2].tolist() == [0, 0]
    assert float(left[2:4].max()) < 0.004  # at the edge, 0.0005 of a normal one, more of a t
    assert float(left[4]) > 0.95
    assert not bool(surely_within(effect, -behaviour, 0.05).any())


# The table


def test_the_table_has_a_row_a_node_and_means_over_pairs(tiny_decoder, random_pairs) -> None:
    model, pairs = tiny_decoder(), random_pairs(pairs=9)
    measured, table = all_effects(model, pairs), effects(model, pairs)
    assert tuple(table["node"]) == Decoder.of(model).graph.nodes
    for name, per_pair in (("corrupt", measured.corrupt), ("restore", measured.restore)):
        assert_close(torch.tensor(table[name].to_numpy()), per_pair.mean(0))
        assert (table[f"{name}_low"] <= table[name]).all()
        assert (table[name] <= table[f"{name}_high"]).all()
        known = table[f"{name}_share"].dropna()
        wanted = per_pair.mean(0) / measured.behaviour.mean()
        assert known.empty or torch.allclose(torch.tensor(known.to_numpy()), wanted, rtol=1e-3)


def test_named_nodes_come_in_the_order_of_the_graph(tiny_decoder, random_pairs) -> None:
    model, pairs = tiny_decoder(), random_pairs()
    table, full = effects(model, pairs, ["M1", "L0H2", "M1"]), effects(model, pairs)
    assert list(table["node"]) == ["L0H2", "M1"]
    wanted = full.set_index("node").loc[["L0H2", "M1"], "corrupt"].tolist()
    assert table["corrupt"].tolist() == pytest.approx(wanted, rel=1e-4)


def test_without_behaviour_shares_are_nan_and_surely_unknown(tiny_decoder, random_pairs) -> None:
    drawn = random_pairs()
    same = PromptPairs(drawn.clean, drawn.clean, labels=drawn.labels)
    table = effects(tiny_decoder(), same)
    assert (table[["corrupt", "restore"]].abs() < 1e-4).all(axis=None)
    for name in ("corrupt_share", "restore_share"):
        assert table[name].isna().all()
        assert (table[f"{name}_low"] == -math.inf).all()
        assert (table[f"{name}_high"] == math.inf).all()


def test_what_cannot_be_measured_is_refused(tiny_decoder, random_pairs) -> None:
    model, pairs = tiny_decoder(), random_pairs()
    with pytest.raises(BadInput, match=r"no node 'L9H0' in a decoder of 2 layers x 4 heads"):
        effects(model, pairs, ["L0H0", "L9H0"])
    with pytest.raises(BadInput, match="no node 'embed'"):
        effects(model, pairs, ["embed"])
    with pytest.raises(BadInput, match="no node is named"):
        effects(model, pairs, [])
    with pytest.raises(BadInput, match="needs pairs with labels"):
        effects(model, random_pairs(labels=False))
    with pytest.raises(BadInput, match="unknown metric 'diff'"):
        effects(model, pairs, metric="diff")
    with pytest.raises(BadInput, match="batch_size is 0"):
        effects(model, pairs, batch_size=0)
    with pytest.raises(BadInput, match="the model knows 50 tokens"):
        effects(model, random_pairs(vocabulary=60, seed=1))
