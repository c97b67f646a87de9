"""What a circuit carries is what a slow twin says that the model does with only its edges."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.builders.closeness import assert_close
from tests.builders.decoders import VARIANTS, in_training
from tests.builders.draws import METRICS, arches, few, seeds, sides
from tests.builders.edges import drawn
from tests.builders.golden import Golden
from tests.builders.patched_twin import slowly
from tests.builders.prompt_pairs import repadded
from tests.builders.untouched import assert_same, everything
from tracking.attribution.attribute import attribute
from tracking.circuits.circuit import Circuit, prune
from tracking.circuits.curve import curve
from tracking.circuits.faithfulness import Experiment, Runs, faithfulness
from tracking.errors import BadInput
from tracking.model.decoder import Decoder
from tracking.model.graph import Graph
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.stability.bootstrap import resamples

# Against the slow twin


@arches
@few(3)
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
@few(3)
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
@few(1)
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
    result = Experiment.of(model, other, metric, batch_size).run(circuits)
    for name in ("clean", "corrupted", "patched"):
        assert torch.allclose(getattr(result, name), getattr(wanted, name), atol=1e-5)
    assert torch.equal(result.right, wanted.right)


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
    anew = Experiment.of(model, pairs, "prob", 2)  # an experiment remembers what it has run
    again = anew.run([circuits[place] for place in order])
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
    result = runs.faithfulness(0, resamples(400, pairs))
    wanted = (patched.mean() - corrupted.mean()) / (clean.mean() - 2 - corrupted.mean())
    assert result.value == pytest.approx(float(wanted), abs=1e-5)
    assert result.low - 1e-6 <= result.value <= result.high + 1e-6
    assert result.accuracy == pytest.approx(float(clean.round().mean()))


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator, weights, covered = torch.Generator().manual_seed(0), resamples(400, 60), 0
    for _ in range(400):
        clean, corrupted, carried = torch.rand(3, 60, generator=generator)
        runs = Runs(clean - 1.5, corrupted, corrupted - 1.6 * carried[None], clean, clean[None])
        result = runs.faithfulness(0, weights)
        covered += result.low <= 0.8 / 1.5 <= result.high
    assert 0.91 < covered / 400 < 0.98


def test_identical_pairs_leave_no_doubt(tiny_decoder, random_pairs) -> None:
    model, one = tiny_decoder(), random_pairs(pairs=1)
    pairs = PromptPairs(*(part.repeat(6, 1) for part in (one.clean, one.corrupted)))
    circuit = Circuit(Decoder.of(model).graph, drawn(Decoder.of(model).graph, 0.7, 0))
    result = faithfulness(model, pairs, circuit)
    assert abs(result.value) > 0.01 and result.value != pytest.approx(1, abs=0.01)
    assert result.low == pytest.approx(result.value, abs=1e-5)
    assert result.high == pytest.approx(result.value, abs=1e-5)


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
    labelled = PromptPairs(
        pairs.clean, pairs.corrupted, pairs.attention_mask, torch.stack([right, right], dim=1)
    )
    graph = Decoder.of(model).graph
    runs = Experiment.of(model, labelled, "prob", 3).run(
        [graph.edge_mask, torch.zeros_like(graph.edge_mask)]
    )
    assert runs.clean_right.tolist() == (clean == right).float().tolist()
    assert runs.right[0].tolist() == (clean == right).float().tolist()
    assert runs.right[1].tolist() == (corrupted == right).float().tolist()
    assert 0 < float(runs.right[0].mean()) < 1
    whole = faithfulness(model, labelled, Circuit.full(graph), "prob")
    assert whole.accuracy == pytest.approx(float((clean == right).float().mean()))


def test_without_labels_there_is_no_accuracy(tiny_decoder, random_pairs) -> None:
    model = tiny_decoder()
    result = faithfulness(model, random_pairs(labels=False), Circuit.full(Decoder.of(model).graph))
    assert result.value == pytest.approx(1) and result.accuracy != result.accuracy


@pytest.mark.parametrize("metric", METRICS)
def test_where_clean_and_corrupted_are_one_there_is_nothing_to_carry(
    tiny_decoder, random_pairs, metric: str
) -> None:
    model, pairs = tiny_decoder(), random_pairs()
    same = PromptPairs(pairs.clean, pairs.clean, pairs.attention_mask, pairs.labels)
    result = faithfulness(model, same, Circuit.full(Decoder.of(model).graph), metric)
    for number in (result.value, result.low, result.high):
        assert number != number
    assert 0 <= result.accuracy <= 1
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


# Nothing is left behind


@arches
def test_a_model_in_training_is_as_before(tiny_decoder, random_pairs, arch: str) -> None:
    model, pairs = in_training(tiny_decoder, arch), random_pairs()
    circuits = list(drawn(Decoder.of(model).graph, 0.5, 0, 2))
    before = everything(model)
    result = Experiment.of(model, pairs, "prob", 2).run(circuits)
    assert_same(before, everything(model))
    calm = tiny_decoder(arch, attention_dropout=0.5, seed=3)
    assert_close(result.patched, Experiment.of(calm, pairs, "prob", 2).run(circuits).patched)


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
    result = faithfulness(model, pairs, circuit, right)
    assert result.value == pytest.approx(faithfulness(model, pairs, circuit, "prob").value)
