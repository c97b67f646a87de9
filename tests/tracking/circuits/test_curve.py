"""A curve is the faithfulness of its circuits, and the smallest of them is found on it."""

from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.builders import planted as plants
from tests.builders.draws import METRICS, few, seeds, sides
from tests.builders.golden import Golden
from tests.builders.patched_twin import slowly
from tracking.attribution.attribute import attribute
from tracking.circuits.circuit import Circuit
from tracking.circuits.curve import NEAR, SIZES, Curve, counts, curve, curve_of, smallest
from tracking.circuits.faithfulness import Experiment, Faithfulness, faithfulness
from tracking.circuits.select import select
from tracking.circuits.top_edges import by_count
from tracking.model.decoder import Decoder
from tracking.model.graph import Graph
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.stability.bootstrap import resamples


def assert_curve_is_the_twin_s(model: Any, pairs: PromptPairs, metric: str, scores: Tensor) -> None:
    graph, result = Decoder.of(model).graph, curve(model, pairs, scores, metric)
    circuits = [by_count(graph, scores, count) for count in result.counts]
    empty = torch.zeros_like(graph.edge_mask)
    values = slowly(model, pairs, metric, torch.stack([*circuits, graph.edge_mask, empty])).mean(1)
    wanted = (values[:-2] - values[-1]) / (values[-2] - values[-1])
    shares = [value.value for value in result.values]
    assert shares == pytest.approx(wanted.tolist(), abs=1e-4)
    assert max(shares) - min(shares) > 0.5


@few(3)
@given(seed=seeds, metric=st.sampled_from(METRICS), side=sides)
def test_the_curve_is_the_slow_twin_s(
    tiny_decoder, random_pairs, seed: int, metric: str, side: str
) -> None:
    model = tiny_decoder("qwen2", heads=2, kv_heads=1, seed=seed)
    pairs = random_pairs(pairs=3, length=6, ragged=True, side=side, seed=seed)
    scores = attribute(model, pairs, metric=metric, steps=3).edges
    assert_curve_is_the_twin_s(model, pairs, metric, scores)


@pytest.mark.parametrize("golden", ["qwen2_tiny"], indirect=True)
@pytest.mark.parametrize("metric", ["kl", "neg_logit_diff"])
def test_the_curve_of_the_reference_s_scores_is_the_slow_twin_s(
    golden: Golden, metric: str
) -> None:
    scores = golden.tensors[f"scores/EAP-IG-inputs/{metric}"]
    assert_curve_is_the_twin_s(golden.model, golden.pairs[:2], metric, scores)


def by_values(*values: float) -> tuple[Faithfulness, ...]:
    return tuple(Faithfulness(value, value, value, 0.0) for value in values)


def test_the_areas_of_a_curve_are_what_a_hand_finds() -> None:
    known = Curve((1, 5, 10), by_values(0.2, 0.8, 1.0))
    assert known.sizes.tolist() == [0.1, 0.5, 1]
    assert known.cpr == pytest.approx(0.4 * 0.5 + 0.5 * 0.9)
    assert known.cmd == pytest.approx(0.4 * 0.5 + 0.5 * 0.1)
    beyond = Curve((1, 5, 10), by_values(-1.0, 1.5, 1.0))
    assert beyond.cpr == pytest.approx(0.4 * 0.25 + 0.5 * 1.25)
    assert beyond.cmd == pytest.approx(0.4 * 1.25 + 0.5 * 0.25)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_below_one_the_areas_share_what_is_under_one(values: list[float]) -> None:
    known = Curve(tuple(range(1, len(values) + 1)), by_values(*values))
    assert known.cpr + known.cmd == pytest.approx(1 - 1 / len(values))


@given(st.builds(Graph, n_layers=st.integers(1, 8), n_heads=st.integers(1, 8)))
def test_sizes_are_mib_s_and_end_with_all_edges(graph: Graph) -> None:
    result, total = counts(graph), int(graph.edge_mask.sum())
    assert result[-1] == total and result[0] >= 1
    assert all(fewer < more for fewer, more in pairwise(result))
    assert set(result) == {max(1, round(size * total)) for size in SIZES}
    assert SIZES == (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def test_a_curve_is_the_faithfulness_of_its_circuits(tiny_decoder, random_pairs) -> None:
    model, pairs = tiny_decoder(), random_pairs()
    scores = attribute(model, pairs, metric="prob")
    points = curve(model, pairs, scores.edges, "prob")
    for count, value in zip(points.counts, points.values, strict=True):
        alone = faithfulness(model, pairs, select(scores, edges=count), "prob")
        for name in ("value", "low", "high", "accuracy"):
            assert getattr(value, name) == pytest.approx(getattr(alone, name), abs=1e-5)


def all_values(experiment: Experiment, scores: Tensor) -> list[float]:
    """Faithfulness by the number of edges, from 0 to all."""
    graph = experiment.graph
    circuits = [
        by_count(graph, scores, count) for count in range(1, int(graph.edge_mask.sum()) + 1)
    ]
    runs = experiment.run([torch.zeros_like(graph.edge_mask), *circuits])
    carried = (runs.patched - runs.corrupted).mean(1)
    return (carried / (runs.clean - runs.corrupted).mean()).tolist()


@settings(derandomize=True, max_examples=12)
@given(seed=seeds, wanted=st.floats(0.1, 0.99), layers=st.integers(1, 2))
def test_the_smallest_reaches_what_is_wanted_and_none_near_below_does(
    tiny_decoder, random_pairs, seed: int, wanted: float, layers: int
) -> None:
    """Also on a curve that goes up and down it is a place where the curve crosses."""
    model = tiny_decoder(layers=layers, heads=2, kv_heads=1, seed=seed)
    experiment = Experiment.of(model, random_pairs(seed=seed), "kl", 5)
    scores = attribute(model, experiment.pairs, metric="kl", quadrature="left").edges
    known = curve_of(experiment, scores, resamples(5, len(experiment.pairs)))
    values = all_values(experiment, scores)
    result = smallest(experiment, scores, wanted, known)
    assert values[result] >= wanted - 1e-5
    below = [count for count in range(result) if result <= max(count + 1, NEAR * count)]
    assert min(values[count] for count in below) < wanted + 1e-5
    if all(less <= more for less, more in pairwise(values)):
        first = next(count for count, value in enumerate(values) if value >= wanted - 1e-5)
        assert first <= result <= max(first, NEAR * (first + 1))


def test_what_no_circuit_reaches_takes_all_edges(tiny_decoder, random_pairs) -> None:
    model, pairs = tiny_decoder(), random_pairs()
    scores = attribute(model, pairs).edges
    experiment = Experiment.of(model, pairs, "kl")
    known = curve_of(experiment, scores, resamples(5, len(pairs)))
    assert smallest(experiment, scores, 1e6, known) == known.counts[-1]


@pytest.mark.parametrize("metric", ["kl", "prob", "neg_logit_diff"])
def test_a_planted_circuit_is_faithful_and_is_found(metric: str) -> None:
    model, pairs = plants.planted(), plants.pairs()
    path = [f"embed->{plants.COPY}.v", f"{plants.COPY}->logits"]
    graph = Decoder.of(model).graph
    circuit = Circuit.of(graph, path)
    result = faithfulness(model, pairs, circuit, metric)
    assert result.value == pytest.approx(1, abs=0.05) and result.accuracy == 1
    rest = faithfulness(model, pairs, Circuit(graph, graph.edge_mask & ~circuit.edge_mask), metric)
    assert rest.value == pytest.approx(0, abs=0.05) and rest.accuracy == 0
    scores = attribute(model, pairs, metric=metric, steps=20, quadrature="adaptive")
    experiment = Experiment.of(model, pairs, metric)
    known = curve_of(experiment, scores.edges, resamples(5, len(pairs)))
    for wanted in (0.1, 0.5, 0.9):
        assert smallest(experiment, scores.edges, wanted, known) == len(path)
    by_size = select(scores, faithfulness=0.8, model=model, pairs=pairs)
    assert torch.equal(by_size.edge_mask, circuit.edge_mask)
    assert by_size.heads == [plants.COPY]
    assert known.cpr > 0.95 and known.cmd < 0.05


@pytest.mark.parametrize("rank", ["signed", "absolute"])
def test_a_circuit_of_a_faithfulness_has_it(tiny_decoder, random_pairs, rank: str) -> None:
    model, pairs = tiny_decoder(seed=1), random_pairs(ragged=True)
    scores = attribute(model, pairs, metric="prob")
    ranked = scores.edges if rank == "signed" else scores.strength
    for wanted in (0.5, 0.9):
        circuit = select(scores, faithfulness=wanted, rank=rank, model=model, pairs=pairs)
        assert faithfulness(model, pairs, circuit, "prob").value >= wanted - 1e-5
        sizes = range(1, int(scores.graph.edge_mask.sum()) + 1)
        by_size = map(partial(by_count, scores.graph, ranked), sizes)
        assert any(torch.equal(circuit.edge_mask, edges) for edges in by_size)
