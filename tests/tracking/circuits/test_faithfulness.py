"""What a circuit carries is what a slow twin says that the model does with only its edges.

The twin knows no editing of what is read: it runs `by_hand`, in float64 and on one pair at a time,
again and again, adding to every target what its corrupted sources lack. After each run the targets
of one more layer read what they should.
"""

from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.tracking.attribution import test_planted as plants
from tests.tracking.attribution.test_attribute import (
    METRICS,
    VARIANTS,
    arches,
    assert_close,
    assert_same,
    by_hand,
    everything,
    few,
    in_training,
    loss_by_hand,
    repadded,
    seeds,
)
from tests.tracking.conftest import Golden
from tracking.attribution.attribute import attribute
from tracking.circuits.circuit import Circuit, prune
from tracking.circuits.curve import NEAR, SIZES, Curve, counts, curve, curve_of, smallest
from tracking.circuits.faithfulness import Experiment, Faithfulness, Runs, faithfulness
from tracking.circuits.selection import by_count
from tracking.errors import BadInput
from tracking.model.decoder import Decoder
from tracking.model.graph import Graph
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.stability.bootstrap import resamples

sides = st.sampled_from(["left", "right"])


def drawn(graph: Graph, kept: float, seed: int, *more: int) -> Tensor:
    """Random edges, a share `kept` of all; they need not lie on a path."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(*more, *graph.edge_mask.shape, generator=generator) < kept) & graph.edge_mask


def slowly_kept(model: Any, clean: Tensor, corrupted: Tensor, graph: Graph, kept: Tensor) -> Tensor:
    """Logits [position, vocabulary] with only the edges `kept`; embeddings [position, width]."""
    before = by_hand(model, corrupted).writes
    lost = {
        target: [
            source
            for row, source in enumerate(graph.sources)
            if graph.edge_mask[row, column] and not kept[row, column]
        ]
        for column, target in enumerate(graph.targets)
    }
    here = by_hand(model, clean)
    for _ in range(2 * graph.n_layers + 1):  # heads and MLP of each layer, and the logits
        patches = {
            target: torch.stack([before[s] - here.writes[s] for s in sources]).sum(0)
            for target, sources in lost.items()
            if sources
        }
        here = by_hand(model, clean, **patches)
    return here.logits


def slowly(model: Any, pairs: PromptPairs, metric: str, circuits: Tensor) -> Tensor:
    """The metric [circuit, pair] of the circuits [circuit, source, target]."""
    graph, table = Decoder.of(model).graph, model.get_input_embeddings().weight.detach().double()
    out = torch.zeros(len(circuits), len(pairs), dtype=torch.double)
    assert pairs.labels is not None
    for index in range(len(pairs)):
        real = pairs.attention_mask[index].bool()
        ids = pairs.clean[index][real]
        ends = table[ids], table[pairs.corrupted[index][real]]
        whole = by_hand(model, ends[0]).logits
        rest = whole, ids, pairs.supervised[index][real], pairs.labels[index]
        for place, kept in enumerate(circuits):
            logits = slowly_kept(model, *ends, graph, kept)
            out[place, index] = loss_by_hand(metric, logits, *rest)
    return out


# Against the slow twin


@arches
@few(6)
@given(data=st.data())
def test_a_model_with_some_of_its_edges_does_what_the_slow_twin_does(
    tiny_decoder, random_pairs, arch: str, data: st.DataObject
) -> None:
    model = tiny_decoder(
        arch, seed=data.draw(seeds), **data.draw(st.sampled_from(VARIANTS[arch]), "variant")
    )
    pairs = random_pairs(
        pairs=3,
        length=6,
        ragged=True,
        side=data.draw(sides),
        looks=data.draw(st.integers(1, 3)),
        seed=data.draw(seeds),
    )
    metric, graph = data.draw(st.sampled_from(METRICS)), Decoder.of(model).graph
    circuits = drawn(graph, data.draw(st.floats(0.05, 0.95)), data.draw(seeds), 3)
    runs = Experiment.of(model, pairs, metric, batch_size=2).run(list(circuits))
    assert_close(runs.patched.double(), slowly(model, pairs, metric, circuits), 3e-5)
    ends = torch.stack([graph.edge_mask, torch.zeros_like(graph.edge_mask)])
    clean, corrupted = slowly(model, pairs, metric, ends)
    assert torch.allclose(runs.clean.double(), clean, atol=1e-5)
    assert torch.allclose(runs.corrupted.double(), corrupted, atol=1e-5)


def assert_curve_is_the_twin_s(model: Any, pairs: PromptPairs, metric: str, scores: Tensor) -> None:
    graph, found = Decoder.of(model).graph, curve(model, pairs, scores, metric)
    circuits = [by_count(graph, scores, count) for count in found.counts]
    empty = torch.zeros_like(graph.edge_mask)
    values = slowly(model, pairs, metric, torch.stack([*circuits, graph.edge_mask, empty])).mean(1)
    wanted = (values[:-2] - values[-1]) / (values[-2] - values[-1])
    shares = [value.value for value in found.values]
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


@pytest.mark.parametrize("golden", ["qwen2_tiny"], indirect=True)
@pytest.mark.parametrize("metric", ["kl", "neg_logit_diff"])
def test_dropping_one_edge_does_what_the_reference_says(golden: Golden, metric: str) -> None:
    graph, exact = Decoder.of(golden.model).graph, golden.tensors[f"scores/exact/{metric}"]
    strongest = exact.abs().flatten().topk(12).indices
    circuits = [graph.edge_mask.clone() for _ in strongest]
    for circuit, place in zip(circuits, strongest, strict=True):
        circuit.view(-1)[place] = False
    runs = Experiment.of(golden.model, golden.pairs, metric).run(circuits)
    assert_close((runs.patched - runs.clean).mean(1), exact.flatten()[strongest], 1e-4)
    assert torch.allclose(runs.corrupted, golden.tensors[f"metric/{metric}/corrupted"], atol=1e-3)


# Laws


@arches
@few(5)
@given(seed=seeds, metric=st.sampled_from(METRICS), side=sides, data=st.data())
def test_all_edges_are_the_clean_run_and_none_the_corrupted_one(
    tiny_decoder, random_pairs, arch: str, seed: int, metric: str, side: str, data: st.DataObject
) -> None:
    variant = data.draw(st.sampled_from(VARIANTS[arch]))
    model = tiny_decoder(arch, seed=seed, **variant)
    pairs, graph = random_pairs(ragged=True, side=side, looks=2, seed=seed), Decoder.of(model).graph
    full, empty = Circuit.full(graph), Circuit.empty(graph)
    runs = Experiment.of(model, pairs, metric, 3).run([full.edge_mask, empty.edge_mask])
    ends = torch.stack([runs.clean, runs.corrupted])
    assert torch.allclose(runs.patched, ends, atol=1e-5)
    scores = attribute(model, pairs, "eap", metric)
    assert torch.allclose(ends, torch.stack([scores.clean, scores.corrupted]), atol=1e-5)
    for circuit, wanted in ((full, 1), (empty, 0)):
        assert faithfulness(model, pairs, circuit).value == pytest.approx(wanted, abs=1e-4)


@arches
@few(2)
@given(seed=seeds, metric=st.sampled_from(METRICS), side=sides)
def test_dropping_one_edge_is_its_exact_score(
    tiny_decoder, random_pairs, arch: str, seed: int, metric: str, side: str
) -> None:
    model = tiny_decoder(arch, heads=2, kv_heads=1, seed=seed)
    pairs = random_pairs(pairs=3, length=6, ragged=True, side=side, seed=seed)
    exact = attribute(model, pairs, "exact", metric, per_pair=True)
    edges = exact.graph.edge_mask.nonzero()
    circuits = exact.graph.edge_mask.repeat(len(edges), 1, 1)
    circuits[torch.arange(len(edges)), edges[:, 0], edges[:, 1]] = False
    runs = Experiment.of(model, pairs, metric, 2).run(list(circuits))
    assert exact.per_pair is not None
    wanted = exact.per_pair[:, edges[:, 0], edges[:, 1]].T
    assert_close(runs.patched - runs.clean, wanted, 3e-5)


@arches
@few(4)
@given(
    seed=seeds,
    metric=st.sampled_from(["neg_logit_diff", "prob", "nll"]),
    batch_size=st.integers(1, 7),
    side=sides,
    extra=st.integers(0, 3),
)
def test_batch_size_and_padding_change_nothing(
    tiny_decoder,
    random_pairs,
    arch: str,
    seed: int,
    metric: str,
    batch_size: int,
    side: str,
    extra: int,
) -> None:
    more = {"sliding_window": 3} if arch == "mistral" else {}
    model = tiny_decoder(arch, seed=seed, **more)
    pairs = random_pairs(ragged=True, looks=2, seed=seed)
    circuits = list(drawn(Decoder.of(model).graph, 0.5, seed, 3))
    wanted = Experiment.of(model, pairs, metric, 5).run(circuits)
    other = repadded(pairs, side, extra, seed)
    found = Experiment.of(model, other, metric, batch_size).run(circuits)
    for name in ("clean", "corrupted", "patched"):
        assert torch.allclose(getattr(found, name), getattr(wanted, name), atol=1e-5)
    assert torch.equal(found.right, wanted.right)


@few(5)
@given(seed=seeds, order=st.permutations(range(6)))
def test_circuits_do_not_touch_each_other_nor_one_run_the_next(
    tiny_decoder, random_pairs, seed: int, order: list[int]
) -> None:
    model, pairs = tiny_decoder(seed=seed), random_pairs(seed=seed)
    three = list(drawn(Decoder.of(model).graph, 0.5, seed, 3))
    circuits = three + three  # equal ones stand at places of their own
    experiment = Experiment.of(model, pairs, "prob", 2)
    first = experiment.run(circuits)
    assert torch.equal(first.patched[:3], first.patched[3:])
    again = experiment.run([circuits[place] for place in order])
    assert torch.equal(again.patched, first.patched[list(order)])
    assert torch.equal(again.right, first.right[list(order)])
    alone = Experiment.of(model, pairs, "prob", 2).run(three[:1])
    assert torch.equal(alone.patched, first.patched[:1])


@few(5)
@given(seed=seeds, kept=st.floats(0.05, 0.9))
def test_what_pruning_takes_away_does_nothing_where_it_feeds_no_one(
    tiny_decoder, random_pairs, seed: int, kept: float
) -> None:
    """Dead ends lead from `embed` or to `logits`; those that do neither way carry nothing: a part
    whose kept inputs are all corrupted writes its corrupted output."""
    model, pairs = tiny_decoder(seed=seed), random_pairs(seed=seed)
    edges = drawn(Decoder.of(model).graph, kept, seed)
    runs = Experiment.of(model, pairs, "kl").run([edges, prune(Decoder.of(model).graph, edges)])
    assert torch.allclose(runs.patched[0], runs.patched[1], atol=1e-5)


# The number, its interval and the accuracy


@given(st.integers(0, 1000), st.integers(2, 30))
def test_the_value_is_the_ratio_of_means_inside_its_interval(seed: int, pairs: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    clean, corrupted, patched = torch.rand(3, pairs, generator=generator)
    runs = Runs(clean - 2, corrupted, patched[None], clean, clean[None].round())
    found = runs.faithfulness(0, resamples(400, pairs))
    wanted = (patched.mean() - corrupted.mean()) / (clean.mean() - 2 - corrupted.mean())
    assert found.value == pytest.approx(float(wanted), abs=1e-5)
    assert found.low - 1e-6 <= found.value <= found.high + 1e-6
    assert found.accuracy == pytest.approx(float(clean.round().mean()))


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator, weights, covered = torch.Generator().manual_seed(0), resamples(400, 60), 0
    for _ in range(400):
        clean, corrupted, carried = torch.rand(3, 60, generator=generator)
        runs = Runs(clean - 1.5, corrupted, corrupted - 1.6 * carried[None], clean, clean[None])
        found = runs.faithfulness(0, weights)
        covered += found.low <= 0.8 / 1.5 <= found.high
    assert 0.91 < covered / 400 < 0.98


def test_identical_pairs_leave_no_doubt(tiny_decoder, random_pairs) -> None:
    model, one = tiny_decoder(), random_pairs(pairs=1)
    pairs = PromptPairs(*(part.repeat(6, 1) for part in (one.clean, one.corrupted)))
    circuit = Circuit(Decoder.of(model).graph, drawn(Decoder.of(model).graph, 0.7, 0))
    found = faithfulness(model, pairs, circuit)
    assert abs(found.value) > 0.01 and found.value != pytest.approx(1, abs=0.01)
    assert found.low == pytest.approx(found.value, abs=1e-5)
    assert found.high == pytest.approx(found.value, abs=1e-5)


@arches
@pytest.mark.parametrize("side", ["left", "right"])
def test_accuracy_is_what_the_top_token_says(
    tiny_decoder, random_pairs, arch: str, side: str
) -> None:
    model = tiny_decoder(arch)
    pairs = random_pairs(pairs=8, ragged=True, side=side)
    places = pairs.attention_mask.cumsum(-1) - 1

    def answers(ids: Tensor) -> Tensor:
        with torch.no_grad():
            logits = model(
                ids, attention_mask=pairs.attention_mask, position_ids=places.clamp(min=0)
            ).logits
        return logits[torch.arange(8), pairs.supervised.int().argmax(-1)].argmax(-1)

    clean, corrupted = answers(pairs.clean), answers(pairs.corrupted)
    right = torch.where(torch.arange(8) < 3, clean, corrupted)  # of some the corrupted one is right
    told = PromptPairs(
        pairs.clean, pairs.corrupted, pairs.attention_mask, torch.stack([right, right], dim=1)
    )
    graph = Decoder.of(model).graph
    runs = Experiment.of(model, told, "prob", 3).run(
        [graph.edge_mask, torch.zeros_like(graph.edge_mask)]
    )
    assert runs.clean_right.tolist() == (clean == right).float().tolist()
    assert runs.right[0].tolist() == (clean == right).float().tolist()
    assert runs.right[1].tolist() == (corrupted == right).float().tolist()
    assert 0 < float(runs.right[0].mean()) < 1
    whole = faithfulness(model, told, Circuit.full(graph), "prob")
    assert whole.accuracy == pytest.approx(float((clean == right).float().mean()))


def test_without_labels_there_is_no_accuracy(tiny_decoder, random_pairs) -> None:
    model = tiny_decoder()
    found = faithfulness(model, random_pairs(labels=False), Circuit.full(Decoder.of(model).graph))
    assert found.value == pytest.approx(1) and found.accuracy != found.accuracy


@pytest.mark.parametrize("metric", METRICS)
def test_where_clean_and_corrupted_are_one_there_is_nothing_to_carry(
    tiny_decoder, random_pairs, metric: str
) -> None:
    model, pairs = tiny_decoder(), random_pairs()
    same = PromptPairs(pairs.clean, pairs.clean, pairs.attention_mask, pairs.labels)
    found = faithfulness(model, same, Circuit.full(Decoder.of(model).graph), metric)
    for number in (found.value, found.low, found.high):
        assert number != number
    assert 0 <= found.accuracy <= 1
    drawn_curve = curve(model, same, torch.ones(Decoder.of(model).graph.edge_mask.shape), metric)
    assert drawn_curve.cpr != drawn_curve.cpr and drawn_curve.cmd != drawn_curve.cmd


def test_a_circuit_of_another_model_is_refused_in_one_line(tiny_decoder, random_pairs) -> None:
    with pytest.raises(BadInput, match="3 layers x 4 heads, the model has 2 x 4") as raised:
        faithfulness(tiny_decoder(), random_pairs(), Circuit.full(Graph(3, 4)))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"metric": "loss"}, "'loss'.*kl"), ({"batch_size": 0}, "batch_size is 0")],
)
def test_a_setting_that_makes_no_sense_is_named(
    tiny_decoder, random_pairs, wrong: dict[str, Any], named: str
) -> None:
    model = tiny_decoder()
    with pytest.raises(BadInput, match=named):
        faithfulness(model, random_pairs(), Circuit.full(Decoder.of(model).graph), **wrong)
    with pytest.raises(BadInput, match=named):
        curve(model, random_pairs(), torch.ones(Decoder.of(model).graph.edge_mask.shape), **wrong)


# Curves


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
    found, total = counts(graph), int(graph.edge_mask.sum())
    assert found[-1] == total and found[0] >= 1
    assert all(fewer < more for fewer, more in pairwise(found))
    assert set(found) == {max(1, round(size * total)) for size in SIZES}
    assert SIZES == (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def test_a_curve_is_the_faithfulness_of_its_circuits(tiny_decoder, random_pairs) -> None:
    model, pairs = tiny_decoder(), random_pairs()
    scores = attribute(model, pairs, metric="prob")
    found = curve(model, pairs, scores.edges, "prob")
    for count, value in zip(found.counts, found.values, strict=True):
        alone = faithfulness(model, pairs, scores.circuit(edges=count), "prob")
        for name in ("value", "low", "high", "accuracy"):
            assert getattr(value, name) == pytest.approx(getattr(alone, name), abs=1e-5)


# The fewest edges


def all_values(experiment: Experiment, scores: Tensor) -> list[float]:
    """Faithfulness by the number of edges, from 0 to all."""
    graph = experiment.graph
    circuits = [
        by_count(graph, scores, count) for count in range(1, int(graph.edge_mask.sum()) + 1)
    ]
    runs = experiment.run([torch.zeros_like(graph.edge_mask), *circuits])
    carried = (runs.patched - runs.corrupted).mean(1)
    return (carried / (runs.clean - runs.corrupted).mean()).tolist()


@settings(deadline=None, derandomize=True, max_examples=12)
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
    found = smallest(experiment, scores, wanted, known)
    assert values[found] >= wanted - 1e-5
    below = [count for count in range(found) if found <= max(count + 1, NEAR * count)]
    assert min(values[count] for count in below) < wanted + 1e-5
    if all(less <= more for less, more in pairwise(values)):
        first = next(count for count, value in enumerate(values) if value >= wanted - 1e-5)
        assert first <= found <= max(first, NEAR * (first + 1))


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
    found = faithfulness(model, pairs, circuit, metric)
    assert found.value == pytest.approx(1, abs=0.05) and found.accuracy == 1
    rest = faithfulness(model, pairs, Circuit(graph, graph.edge_mask & ~circuit.edge_mask), metric)
    assert rest.value == pytest.approx(0, abs=0.05) and rest.accuracy == 0
    scores = attribute(model, pairs, metric=metric, steps=20, quadrature="adaptive")
    experiment = Experiment.of(model, pairs, metric)
    known = curve_of(experiment, scores.edges, resamples(5, len(pairs)))
    for wanted in (0.1, 0.5, 0.9):
        assert smallest(experiment, scores.edges, wanted, known) == len(path)
    by_size = scores.circuit(faithfulness=0.8, model=model, pairs=pairs)
    assert torch.equal(by_size.edge_mask, circuit.edge_mask)
    assert by_size.heads == [plants.COPY]
    assert known.cpr > 0.95 and known.cmd < 0.05


@pytest.mark.parametrize("rank", ["signed", "absolute"])
def test_a_circuit_of_a_faithfulness_has_it(tiny_decoder, random_pairs, rank: str) -> None:
    model, pairs = tiny_decoder(seed=1), random_pairs(ragged=True)
    scores = attribute(model, pairs, metric="prob")
    ranked = scores.edges if rank == "signed" else scores.strength
    for wanted in (0.5, 0.9):
        circuit = scores.circuit(faithfulness=wanted, rank=rank, model=model, pairs=pairs)
        assert faithfulness(model, pairs, circuit, "prob").value >= wanted - 1e-5
        sizes = range(1, int(scores.graph.edge_mask.sum()) + 1)
        by_size = map(partial(by_count, scores.graph, ranked), sizes)
        assert any(torch.equal(circuit.edge_mask, edges) for edges in by_size)


# Nothing is left behind


@arches
def test_a_model_in_training_is_as_before(tiny_decoder, random_pairs, arch: str) -> None:
    model, pairs = in_training(tiny_decoder, arch), random_pairs()
    circuits = list(drawn(Decoder.of(model).graph, 0.5, 0, 2))
    before = everything(model)
    found = Experiment.of(model, pairs, "prob", 2).run(circuits)
    assert_same(before, everything(model))
    calm = tiny_decoder(arch, attention_dropout=0.5, seed=3)
    assert_close(found.patched, Experiment.of(calm, pairs, "prob", 2).run(circuits).patched)


@pytest.mark.parametrize("calls", range(5))
def test_a_model_is_as_before_when_the_metric_fails_midway(
    tiny_decoder, random_pairs, calls: int
) -> None:
    model, left = in_training(tiny_decoder, "qwen3"), calls

    def failing(logits: Tensor, clean_logits: Tensor, pairs: PromptPairs) -> Tensor:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        return logits.sum((-1, -2))

    before = everything(model)
    with pytest.raises(KeyboardInterrupt):
        faithfulness(model, random_pairs(), Circuit.full(Decoder.of(model).graph), failing, 2)
    assert_same(before, everything(model))


@arches
@pytest.mark.parametrize("calls", range(3))  # the clean, the corrupted and the patched pass
@pytest.mark.parametrize("part", ["self_attn.o_proj", "mlp"])
def test_a_model_is_as_before_when_a_pass_fails_midway(
    tiny_decoder, random_pairs, arch: str, calls: int, part: str
) -> None:
    model, left = in_training(tiny_decoder, arch), calls

    def failing(*_: Any) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1

    model.get_submodule(f"model.layers.1.{part}").register_forward_hook(failing)
    before = everything(model)
    with pytest.raises(KeyboardInterrupt):
        faithfulness(model, random_pairs(), Circuit.full(Decoder.of(model).graph))
    assert_same(before, everything(model))


def test_a_custom_metric_stands_in_for_a_named_one(tiny_decoder, random_pairs) -> None:
    model, pairs = tiny_decoder(), random_pairs()

    def right(logits: Tensor, clean_logits: Tensor, pairs: PromptPairs) -> Tensor:
        assert pairs.labels is not None
        return -logits[:, 0].softmax(-1).gather(-1, pairs.labels[:, :1])[:, 0]

    circuit = Circuit(Decoder.of(model).graph, drawn(Decoder.of(model).graph, 0.7, 0))
    found = faithfulness(model, pairs, circuit, right)
    assert found.value == pytest.approx(faithfulness(model, pairs, circuit, "prob").value)
