"""Patching between two models is what whole passes with hooks say."""

from contextlib import ExitStack
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.builders.closeness import assert_close
from tests.builders.decoders import VARIANTS, in_training, with_adapter
from tests.builders.draws import few, seeds, sides
from tests.builders.node_patching import passed
from tests.builders.two_models import changed
from tests.builders.untouched import assert_same, everything
from tracking import BadInput, PromptPairs
from tracking.attribution.metrics import neg_logit_diff
from tracking.comparison.exchange.crossed import (
    Crossed,
    Looks,
    Part,
    crossed_nodes,
    crossed_parts,
    layer_heads,
    whole,
)
from tracking.interventions.grafted import grafted
from tracking.model.decoder import Decoder

NONE = Part("nothing", torch.zeros(10, dtype=torch.bool))
CASES = [(arch, variant) for arch, variants in VARIANTS.items() for variant in variants]


def figure(model: Any, looks: Looks) -> Tensor:
    """[row], by the whole model as anyone would run it."""
    mask = looks.mask
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        logits = model(
            input_ids=looks.token_ids, attention_mask=mask, position_ids=positions, use_cache=False
        ).logits
    out = torch.zeros(len(looks))
    for row in range(len(looks)):
        for at, weight, (first, second) in zip(
            looks.positions[row], looks.weights[row], looks.tokens[row], strict=True
        ):
            out[row] += weight * (logits[row, at, first] - logits[row, at, second])
    return out


def by_whole_passes(base: Any, trained: Any, looks: Looks, sets: list[list[str]]) -> Crossed:
    """Each set of nodes of one model's in the other, which runs beside it."""
    low, high = figure(base, looks), figure(trained, looks)
    lost, gained = [], []
    for nodes in sets:
        with grafted(trained, base, nodes):
            lost.append(high - figure(trained, looks))
        with grafted(base, trained, nodes):
            gained.append(figure(base, looks) - low)
    return Crossed(low, high, torch.stack(lost, 1), torch.stack(gained, 1))


def assert_same_figures(one: Crossed, other: Crossed) -> None:
    assert_close(one.base, other.base)
    assert_close(one.trained, other.trained)
    assert_close(one.lost, other.lost)
    assert_close(one.gained, other.gained)


def alike_behind(base: Any, seed: int) -> Any:
    """A changed copy of `base`, whose norms behind attention are the base's, as `grafted` asks."""
    trained = changed(base, seed)
    for ours, theirs in zip(Decoder.of(base).blocks, Decoder.of(trained).blocks, strict=True):
        if ours.attention_behind:
            theirs.attention_behind.weight.data.copy_(ours.attention_behind.weight.data)
    return trained


def both(model: Any) -> tuple[Decoder, Tensor]:
    decoder = Decoder.of(model)
    return decoder, torch.ones(len(decoder.graph.nodes), dtype=torch.bool)


@pytest.mark.parametrize(("arch", "variant"), CASES, ids=str)
@few(1)
@given(seed=seeds, side=sides, looks=st.integers(1, 3), batch_size=st.integers(1, 4))
def test_single_nodes_are_exchanged_as_by_hooks(
    tiny_decoder, random_pairs, arch: str, variant: dict, seed: int, side: str, looks: int,
    batch_size: int,
) -> None:  # fmt: skip
    base = tiny_decoder(arch, layers=3, seed=seed, **variant)
    trained, (decoder, nodes) = alike_behind(base, seed), both(base)
    places = Looks.of_pairs(random_pairs(ragged=True, side=side, looks=looks, seed=seed), True)
    result = crossed_nodes(decoder, Decoder.of(trained), places, nodes, batch_size)
    sets = [[node] for node in decoder.graph.nodes]
    assert_same_figures(result, by_whole_passes(base, trained, places, sets))


@pytest.mark.parametrize(("arch", "variant"), CASES, ids=str)
@few(1)
@given(seed=seeds, side=sides)
def test_sets_of_nodes_are_exchanged_as_by_hooks(
    tiny_decoder, random_pairs, arch: str, variant: dict, seed: int, side: str
) -> None:
    base = tiny_decoder(arch, layers=3, seed=seed, **variant)
    trained, (decoder, _) = alike_behind(base, seed), both(base)
    places = Looks.of_pairs(random_pairs(ragged=True, side=side, looks=2, seed=seed), True)
    names = decoder.graph.nodes
    sets = [["L0H1", "M1", "L2H0"], [n for n in names if "M" in n], ["L1H0", "L1H3"]]
    parts = [Part("", torch.tensor([name in one for name in names])) for one in sets]
    result = crossed_parts(decoder, Decoder.of(trained), places, parts, 3)
    assert_same_figures(result, by_whole_passes(base, trained, places, sets))


@pytest.mark.parametrize(("arch", "variant"), CASES, ids=str)
def test_everything_exchanged_is_the_other_model(
    tiny_decoder, random_pairs, arch: str, variant: dict
) -> None:
    base = tiny_decoder(arch, layers=3, **variant)
    trained, (decoder, _) = changed(base, 1), both(base)
    looks = Looks.of_pairs(random_pairs(ragged=True), True)
    parts = {part.name: i for i, part in enumerate(whole(decoder.graph))}
    result = crossed_parts(decoder, Decoder.of(trained), looks, whole(decoder.graph), 3)
    place = parts["everything"]
    assert_close(result.lost[:, place], result.behaviour)
    assert_close(result.gained[:, place], result.behaviour)
    rest = parts["attention + MLPs"]
    assert float((result.gained[:, rest] - result.behaviour).abs().max()) > 1e-3
    for name, copied in (("embeddings", "embed_tokens"), ("unembedding", "lm_head")):
        if not variant.get("tied"):
            alone = changed(base, 1, only=(copied, "model.norm") if name[0] == "u" else (copied,))
            wanted = figure(alone, looks) - result.base
            assert_close(result.gained[:, parts[name]], wanted)


def test_the_heads_of_each_layer_are_a_part(tiny_decoder) -> None:
    graph = Decoder.of(tiny_decoder()).graph
    names = [[graph.nodes[i] for i in part.nodes.nonzero()[:, 0]] for part in layer_heads(graph)]
    assert names == [[f"L{layer}H{head}" for head in range(4)] for layer in range(2)]


def test_live_adapters_are_exchanged_as_by_hooks(tiny_decoder, random_pairs) -> None:
    base = tiny_decoder("qwen2")
    trained = with_adapter(tiny_decoder("qwen2"), seed=0).eval()
    decoder, nodes = both(base)
    looks = Looks.of_pairs(random_pairs(), True)
    result = crossed_nodes(decoder, Decoder.of(trained), looks, nodes, 3)
    sets = [[node] for node in decoder.graph.nodes]
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        assert_same_figures(result, by_whole_passes(base, trained, looks, sets))


@pytest.mark.parametrize("clean", [True, False])
def test_a_figure_is_the_logit_difference_of_pairs(tiny_decoder, random_pairs, clean: bool) -> None:
    base, pairs = tiny_decoder(), random_pairs(ragged=True, looks=3)
    trained = Decoder.of(changed(base, 0))
    result = crossed_parts(Decoder.of(base), trained, Looks.of_pairs(pairs, clean), [NONE], 2)
    ids = pairs.clean if clean else pairs.corrupted
    given, _ = passed(base, pairs, ids)
    assert_close(result.base, -neg_logit_diff(given, given, pairs))
    assert float(result.lost.abs().max()) == float(result.gained.abs().max()) == 0


def test_both_models_are_left_as_they_were(tiny_decoder, random_pairs) -> None:
    models = in_training(tiny_decoder, "qwen2"), changed(tiny_decoder("qwen2"), 0)
    decoders, before = [Decoder.of(one) for one in models], [everything(one) for one in models]
    looks = Looks.of_pairs(random_pairs(), True)
    crossed_nodes(decoders[0], decoders[1], looks, both(models[0])[1], 2)
    crossed_parts(decoders[0], decoders[1], looks, whole(decoders[0].graph), 2)
    for model, was in zip(models, before, strict=True):
        assert_same(was, everything(model))


def test_models_that_cannot_be_crossed_are_refused(tiny_decoder, random_pairs) -> None:
    base, nodes = both(tiny_decoder())
    looks = Looks.of_pairs(random_pairs(), True)
    with pytest.raises(BadInput, match="num_hidden_layers: 2 and 3"):
        crossed_nodes(base, Decoder.of(tiny_decoder(layers=3)), looks, nodes)
    with pytest.raises(BadInput, match="load it twice"):
        crossed_nodes(base, base, looks, nodes)
    with pytest.raises(BadInput, match="pairs have no labels"):
        Looks.of_pairs(random_pairs(labels=False), True)


def test_looks_of_some_rows_are_cut_behind_what_is_looked_at() -> None:
    looks = Looks(
        torch.arange(20).view(2, 10), torch.ones(2, 10).long(), torch.tensor([[3, 9], [5, 2]]),
        torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.zeros(2, 2, 2).long(),
    )  # fmt: skip
    cut = looks.rows(torch.tensor([1, 0]))
    assert cut.token_ids.tolist() == [[10, 11, 12, 13, 14, 15], [0, 1, 2, 3, 4, 5]]
    assert cut.positions.tolist() == [[5, 2], [3, 5]]


def test_pairs_come_in_their_own_order(tiny_decoder, random_pairs) -> None:
    base = tiny_decoder()
    trained, (decoder, nodes) = changed(base, 0), both(base)
    pairs: PromptPairs = random_pairs(pairs=7, ragged=True)
    together = crossed_nodes(
        decoder, Decoder.of(trained), Looks.of_pairs(pairs, True), nodes, batch_size=2
    )
    for row in range(7):
        alone = Looks.of_pairs(pairs[[row]], True)
        assert_close(
            crossed_nodes(decoder, Decoder.of(trained), alone, nodes).lost[0], together.lost[row]
        )
