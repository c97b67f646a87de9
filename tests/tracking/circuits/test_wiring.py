"""Wiring is kept where step 0's circuits carry what today's do; a planted swap of wires is seen."""

import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.builders.draws import few, seeds
from tests.builders.planted import pairs
from tests.builders.rewired import EDGES, WIRES, rewired
from tracking.attribution.attribute import attribute
from tracking.circuits.circuit import Circuit
from tracking.circuits.faithfulness import Experiment, faithfulness
from tracking.circuits.top_edges import by_count
from tracking.circuits.wiring import CARRIED, Wiring, missing_edges, random_size, wiring
from tracking.errors import BadInput
from tracking.model.decoder import Decoder
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.stability.bootstrap import resamples

METRIC, PAIRS = "neg_logit_diff", 24
WEIGHTS = resamples(200, PAIRS)


@functools.cache
def scored(swapped: bool) -> Tensor:
    """Scores [pair, source, target] before or after the swap."""
    per_pair = attribute(rewired(swapped), pairs(PAIRS), "eap-ig", METRIC, per_pair=True).per_pair
    assert per_pair is not None
    return per_pair


def today(swapped: bool) -> Experiment:
    return Experiment.of(rewired(swapped), pairs(PAIRS), METRIC)


@functools.cache
def of_swap(before: bool, after: bool) -> Wiring:
    scores = scored(before).mean(0)
    return wiring(today(after), scores, scored(after), (EDGES, 2 * EDGES), WEIGHTS)


@pytest.mark.parametrize("swapped", [False, True])
def test_the_planted_circuit_is_that_of_its_wires(swapped: bool) -> None:
    graph = Decoder.of(rewired(swapped)).graph
    circuit = by_count(graph, scored(swapped).mean(0), EDGES)
    ends = ["embed->L0H0.v", "embed->L0H1.v", "L1H0->logits", "L1H1->logits"]
    assert torch.equal(circuit, Circuit.of(graph, [*ends, *WIRES[swapped]]).edge_mask)


def test_swapped_wires_keep_the_behaviour_and_lose_the_wiring() -> None:
    with torch.no_grad():
        prompt_pairs = pairs(PAIRS)
        before, after = (
            rewired(swapped)(prompt_pairs.clean).logits[:, -1] for swapped in (False, True)
        )
    assert torch.allclose(before, after, atol=1e-4)
    result = of_swap(False, True)
    assert float(result.own.min()) > 0.9
    assert float(result.kept.value[0].abs()) < 0.05 and float(result.kept.high[0]) < 0.1
    assert float((result.null_kept.value - 1).abs().max()) < 0.05
    assert float(result.null_kept.low.min()) > 0.9


@pytest.mark.parametrize("swapped", [False, True])
def test_the_same_scores_keep_exactly_everything(swapped: bool) -> None:
    result = of_swap(swapped, swapped)
    for end in (result.kept.value, result.kept.low, result.kept.high):
        assert torch.equal(end, torch.ones(2))
    assert torch.equal(result.old, result.own)


@few(4)
@given(seed=seeds)
def test_every_number_is_a_ratio_of_faithfulnesses(tiny_decoder, random_pairs, seed: int) -> None:
    model, prompt_pairs = tiny_decoder(seed=seed), random_pairs(pairs=6, seed=seed)
    graph = Decoder.of(model).graph
    generator = torch.Generator().manual_seed(seed)
    old = torch.randn(graph.edge_mask.shape, generator=generator) * graph.edge_mask
    own = torch.randn(6, *graph.edge_mask.shape, generator=generator) * graph.edge_mask
    sizes = (20, 60, int(graph.edge_mask.sum()))
    result = wiring(Experiment.of(model, prompt_pairs, "kl"), old, own, sizes, resamples(50, 6))
    assert result.counts == sizes
    for place, count in enumerate(sizes):
        values = [
            faithfulness(model, prompt_pairs, Circuit(graph, by_count(graph, scores, count))).value
            for scores in (old, own.mean(0))
        ]
        assert values == pytest.approx(
            [float(result.old[place]), float(result.own[place])], abs=1e-3
        )
        if values[1] < CARRIED:
            assert bool(result.kept.value[place].isnan() & result.null_kept.low[place].isnan())
        else:
            wanted = float(result.old[place] / result.own[place])
            assert float(result.kept.value[place]) == pytest.approx(wanted, rel=1e-4)
            assert result.kept.low[place] <= result.kept.high[place]
    assert float(result.kept.value[-1]) == pytest.approx(1, abs=1e-4)  # all edges are all edges


def test_the_null_tries_each_half_s_ranking_on_the_other(tiny_decoder, random_pairs) -> None:
    """With two pairs each is a half of its own."""
    model, prompt_pairs = tiny_decoder(), random_pairs(pairs=2)
    graph = Decoder.of(model).graph
    own = torch.randn(2, *graph.edge_mask.shape, generator=torch.Generator().manual_seed(0))
    experiment = Experiment.of(model, prompt_pairs, METRIC)
    result = wiring(experiment, own[0], own * graph.edge_mask, (50,), resamples(50, 2))
    runs = experiment.run([by_count(graph, scores * graph.edge_mask, 50) for scores in own])
    carried = runs.patched[1, 0] - runs.corrupted[0] + runs.patched[0, 1] - runs.corrupted[1]
    wanted = float(carried / (runs.clean - runs.corrupted).sum())
    assert float(result.null[0]) == pytest.approx(wanted, abs=1e-4)


def test_scores_of_other_pairs_are_refused() -> None:
    for own, prompt_pairs in ((scored(False)[:5], pairs(6)), (scored(False)[:1], pairs(1))):
        experiment = Experiment.of(rewired(False), prompt_pairs, METRIC)
        with pytest.raises(BadInput, match="the same pairs, at least 2"):
            wiring(experiment, own[0], own, (5,), resamples(5, len(prompt_pairs)))


# Which edges are missing


def test_the_missing_edges_are_the_new_wires() -> None:
    scores = [scored(swapped).mean(0) for swapped in (False, True)]
    result = missing_edges(today(True), scores[0], scores[1], EDGES)
    assert {edge for edge, _ in result} == set(WIRES[True])
    assert all(gain > 0.2 for _, gain in result)
    assert missing_edges(today(True), scores[1], scores[1], EDGES) == []


@few(3)
@given(seed=seeds, count=st.integers(20, 80))
def test_a_gain_is_what_the_edge_alone_adds(tiny_decoder, random_pairs, seed, count) -> None:
    model, prompt_pairs = tiny_decoder(seed=seed), random_pairs(seed=seed)
    graph = Decoder.of(model).graph
    generator = torch.Generator().manual_seed(seed)
    old, own = torch.randn(2, *graph.edge_mask.shape, generator=generator) * graph.edge_mask
    experiment = Experiment.of(model, prompt_pairs, "kl")
    result = missing_edges(experiment, old, own, count, limit=4, candidates=12)
    assert len(result) <= 4 and [gain for _, gain in result] == sorted(
        (gain for _, gain in result), reverse=True
    )
    base = by_count(graph, old, count)
    for edge, gain in result:
        assert not base[graph.index(edge)] and by_count(graph, own, count)[graph.index(edge)]
        more = base.clone()
        more[graph.index(edge)] = True
        values = [
            faithfulness(model, prompt_pairs, Circuit(graph, one)).value for one in (more, base)
        ]
        assert values[0] - values[1] == pytest.approx(gain, abs=1e-3) and gain > 0


# How large random circuits have to be


def test_random_circuits_need_many_more_edges_than_the_planted_one() -> None:
    experiment = today(False)
    total = int(experiment.graph.edge_mask.sum())
    sizes = [random_size(experiment, reach) for reach in (0.1, 0.5, 0.9)]
    assert 10 * EDGES < sizes[0] <= sizes[1] <= sizes[2] <= total
    assert random_size(experiment, 0.5) == sizes[1]
    assert random_size(experiment, 1.5) == total


def test_a_random_size_lies_between_the_sizes_that_carry_less_and_more(
    tiny_decoder, random_pairs
) -> None:
    """Where all sizes but the largest carry less than asked, it is on the last stretch."""
    experiment = Experiment.of(tiny_decoder(), random_pairs(), METRIC)
    total = int(experiment.graph.edge_mask.sum())
    assert 0.85 * total <= random_size(experiment, 0.9999) <= total


def test_without_a_behaviour_there_is_no_random_size(tiny_decoder, random_pairs) -> None:
    prompt_pairs = random_pairs()
    same = PromptPairs(
        prompt_pairs.clean, prompt_pairs.clean, prompt_pairs.attention_mask, prompt_pairs.labels
    )
    size = random_size(Experiment.of(tiny_decoder(), same, METRIC), 0.5)
    assert size != size
