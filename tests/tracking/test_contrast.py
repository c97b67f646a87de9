"""What a record says of a model is so: behaviour, circuit, nodes, wiring, from model to words."""

from typing import Any

import pytest
import torch

from scripts.bench.prompts import told_apart
from tests.builders import planted as plants
from tests.builders.records import analysed, in_a_row, recorded
from tracking import contrast
from tracking.attribution.attribute import attribute
from tracking.circuits.curve import counts
from tracking.circuits.faithfulness import Experiment
from tracking.circuits.top_edges import by_count
from tracking.circuits.wiring import CARRIED, carried
from tracking.ledger.ledger import Ledger
from tracking.model.decoder import Decoder
from tracking.model.graph import Graph
from tracking.nodes.effects import effects
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.timeline.activity import Thresholds, verdict
from tracking.timeline.shares import Shares
from tracking.timeline.timeline import Timeline

FINE: dict[str, Any] = {"ig_steps": 20, "max_ig_steps": 40}


def alike(pairs: PromptPairs) -> PromptPairs:
    """The same pairs with nothing corrupted in them."""
    return PromptPairs(pairs.clean, pairs.clean, pairs.attention_mask, pairs.labels)


def verdict_of(analysis: Any) -> str:
    return verdict(analysis, Shares.of(analysis), Thresholds())


# The record's parts


def test_the_planted_head_is_the_one_that_a_sound_record_names() -> None:
    record = recorded(plants.planted(), plants.pairs(32), **FINE)
    analysis = record.analyses["pairs"]
    assert verdict_of(analysis) == "sound"
    assert analysis.circuit.faithfulness == pytest.approx(1, abs=0.05)
    assert analysis.circuit.complement == pytest.approx(0, abs=0.05)
    assert analysis.circuit.accuracy == analysis.circuit.clean_accuracy == 1
    assert analysis.stability.jaccard == analysis.stability.jaccard_low == 1
    timeline = Timeline.of([record])
    nodes = timeline.nodes.set_index("node")
    assert nodes.index[nodes["active"]].tolist() == [plants.COPY]
    copy: Any = nodes.loc[plants.COPY]
    assert copy["corrupt"] == pytest.approx(1, abs=1e-4) == copy["restore"]
    assert copy["membership"] == 1 and copy["importance"] > 0.9
    rest = nodes.drop(index=plants.COPY)
    assert rest[["corrupt", "restore"]].abs().max().max() < 1e-4
    counted = timeline.counts.iloc[0]
    assert counted["together_corrupt"] == pytest.approx(1, abs=1e-4)
    assert counted["active"] == 1 and counted["mlps_active"] == 0


def test_numbers_of_a_record_are_what_its_parts_say(tiny_decoder, random_pairs) -> None:
    model, pairs = tiny_decoder(seed=1), random_pairs(pairs=20, ragged=True, seed=2)
    ours = analysed(model, pairs, select="edges=30", quadrature="midpoint", ig_steps=4)
    scores = attribute(
        model, pairs, metric="neg_logit_diff", steps=4, quadrature="midpoint", batch_size=64,
        per_pair=True,
    )  # fmt: skip
    graph, circuit = scores.graph, ours.circuit
    assert scores.per_pair is not None
    assert torch.equal(ours.scores.edge_scores, scores.edges)
    assert torch.equal(ours.scores.strength, scores.strength)
    assert torch.allclose(ours.nodes.attributed, scores.per_pair[:, 1:].sum(-1))
    assert torch.equal(circuit.circuit, by_count(graph, scores.edges, 30)) and circuit.size == 30
    experiment = Experiment.of(model, pairs, "neg_logit_diff")
    runs = experiment.run([circuit.circuit])
    alone = (runs.patched - runs.corrupted).mean() / (runs.clean - runs.corrupted).mean()
    assert circuit.faithfulness == pytest.approx(float(alone), abs=1e-4)
    rest = experiment.among(contrast.few(20)).run([graph.edge_mask & ~circuit.circuit])
    without = (rest.patched - rest.corrupted).mean() / (rest.clean - rest.corrupted).mean()
    assert circuit.complement == pytest.approx(float(without), abs=1e-4)
    assert torch.allclose(ours.behaviour.clean, -runs.clean, atol=1e-5)
    assert torch.allclose(ours.behaviour.corrupted, -runs.corrupted, atol=1e-5)
    assert circuit.accuracy == pytest.approx(float(runs.right[0].mean()))
    assert circuit.clean_accuracy == pytest.approx(float(runs.clean_right.mean()))
    assert circuit.all_edges == pytest.approx(1, abs=1e-4)
    assert circuit.no_edges == pytest.approx(0, abs=1e-4)
    assert ours.scores.gap == pytest.approx(scores.gap)
    sizes = torch.tensor(counts(graph)) / int(graph.edge_mask.sum())
    assert torch.allclose(circuit.curve[:, 0], sizes)
    assert circuit.curve[-1, 1:].tolist() == pytest.approx([1, 1, 1], abs=1e-4)
    assert circuit.faithfulness_low <= circuit.faithfulness <= circuit.faithfulness_high
    assert ours.stability.jaccard_low <= ours.stability.jaccard <= ours.stability.jaccard_high
    assert -1 <= ours.stability.rank_correlation <= 1


def test_effects_of_nodes_are_those_of_interventions(tiny_decoder, random_pairs) -> None:
    model, pairs = tiny_decoder(seed=3), random_pairs(pairs=20, seed=4)
    ours, table = analysed(model, pairs), effects(model, pairs)
    for name, effect in (("corrupt", ours.nodes.corrupt), ("restore", ours.nodes.restore)):
        assert effect.nanmean(0).tolist() == pytest.approx(table[name].tolist(), abs=1e-4)


def test_all_edges_carry_everything_and_the_rest_nothing(tiny_decoder, random_pairs) -> None:
    ours = analysed(tiny_decoder(), random_pairs(), select="share=1")
    graph = Graph(2, 4)
    assert torch.equal(ours.circuit.circuit, graph.edge_mask)
    assert ours.circuit.faithfulness == pytest.approx(1, abs=1e-4)
    assert ours.circuit.complement == pytest.approx(0, abs=1e-4)
    assert ours.circuit.accuracy == ours.circuit.clean_accuracy
    assert bool((ours.stability.entries <= ours.circuit.size).all())
    assert float(ours.stability.edge_membership[graph.edge_mask].min()) > 0.9
    assert not bool(ours.stability.edge_membership[~graph.edge_mask].any())


@pytest.mark.parametrize("rank", ["signed", "absolute"])
@pytest.mark.parametrize("select", ["share=0.9", "edges=40"])
def test_a_circuit_is_of_the_size_that_is_asked_for(
    tiny_decoder, random_pairs, select: str, rank: str
) -> None:
    ours = analysed(tiny_decoder(seed=4), random_pairs(pairs=12), select=select, rank=rank)
    ranked = ours.scores.edge_scores if rank == "signed" else ours.scores.strength
    edges = ours.circuit.circuit
    assert torch.equal(edges, by_count(Graph(2, 4), ranked, ours.circuit.size))
    if select == "edges=40":
        assert ours.circuit.size == 40
    else:
        held = ranked.abs().flatten().topk(ours.circuit.size).values.sum()
        assert float(held / ranked.abs().sum()) == pytest.approx(0.9, abs=0.02)


# A run


def test_one_size_serves_a_run_and_wiring_is_against_its_first_record() -> None:
    models = [plants.planted(), plants.planted()]
    first, second = in_a_row(models, plants.pairs(32), **FINE)
    assert first.analyses["pairs"].wiring is None
    wiring = second.analyses["pairs"].wiring
    assert wiring is not None and len(wiring.sizes) == len(wiring.old) == len(wiring.own)
    assert wiring.wiring_kept == pytest.approx(1, abs=1e-5)
    assert not len(wiring.missing)
    assert second.analyses["pairs"].circuit.size == first.analyses["pairs"].circuit.size


def test_twice_the_size_is_tried_on_the_part_that_curves_are(tiny_decoder, random_pairs) -> None:
    model = tiny_decoder(seed=5)
    pairs = told_apart(model, random_pairs(pairs=80, seed=1), 80)
    first, second = in_a_row([tiny_decoder(seed=4), model], pairs, select="edges=30")
    scores = [record.analyses["pairs"].scores.edge_scores for record in (first, second)]
    part = Experiment.of(model, pairs, "neg_logit_diff").among(contrast.few(80))
    old, own = (float(carried(part, ranked, [60])[0]) for ranked in scores)
    wiring = second.analyses["pairs"].wiring
    assert wiring is not None and own >= CARRIED
    assert wiring.wiring_kept_double == pytest.approx(old / own, abs=1e-4)


def test_without_behaviour_nothing_is_said_of_wires(tiny_decoder, random_pairs) -> None:
    pairs = alike(random_pairs(pairs=12))
    records = in_a_row([tiny_decoder(seed=4), tiny_decoder(seed=5)], pairs, select="edges=40")
    assert [record.analyses["pairs"].wiring for record in records] == [None, None]


def test_a_gain_on_the_logits_changes_the_behaviour_and_nothing_else() -> None:
    models = []
    for gain in (1.0, 0.3, 4.0):
        models.append(plants.planted())
        models[-1].model.norm.weight.data *= gain
    timeline = Timeline.of(in_a_row(models, plants.pairs(32), **FINE))
    counts = timeline.counts
    grown = (counts["behaviour"] / counts["behaviour"].iloc[0]).tolist()
    assert grown == pytest.approx([1, 0.3, 4], rel=1e-3)
    assert set(timeline.nodes["state"]) == {"base", "retained", "inactive"}
    assert not timeline.nodes["drift"].any()
    assert counts["wiring_kept"][1:].tolist() == pytest.approx([1, 1], abs=1e-3)


def test_a_behaviour_that_is_absent_is_said_to_be_from_model_to_timeline(
    tiny_decoder, random_pairs, tmp_path
) -> None:
    ledger = Ledger(tmp_path)
    ledger.write(recorded(tiny_decoder(), alike(random_pairs(pairs=12))))
    (record,) = ledger.records()
    analysis = record.analyses["pairs"]
    assert analysis.circuit.faithfulness != analysis.circuit.faithfulness  # nothing to carry
    assert torch.equal(analysis.behaviour.clean, analysis.behaviour.corrupted)
    assert verdict_of(analysis) == "absent"
    timeline = Timeline.of([record])
    assert timeline.counts["verdict"].tolist() == ["absent"]
    assert timeline.counts["active"].tolist() == [0]
    assert set(timeline.nodes["state"]) == {"inactive"}


def test_a_behaviour_that_comes_brings_its_nodes_with_it() -> None:
    """Untrained, then with a head planted; the pairs stay the same."""
    plain = plants.planted()
    plain.lm_head.weight.data.zero_()  # it answers nothing
    timeline = Timeline.of(in_a_row([plain, plants.planted()], plants.pairs(32), **FINE))
    assert timeline.counts["verdict"].tolist() == ["absent", "sound"]
    last = timeline.at(1, "pairs").set_index("node")
    assert last.index[last["active"]].tolist() == [plants.COPY]
    copy: Any = last.loc[plants.COPY]
    assert (copy["state"], copy["origin"]) == ("new", "with the behaviour")


# Which nodes are measured


def test_large_models_measure_likely_nodes_known_ones_and_a_sample(
    monkeypatch, tiny_decoder, random_pairs
) -> None:
    monkeypatch.setattr(contrast, "ALL_NODES", 4)
    monkeypatch.setattr(contrast, "SAMPLE", 2)
    models = [plants.planted(), plants.planted()]
    first, second = in_a_row(models, plants.pairs(32), **FINE)
    graph = Decoder.of(models[0]).graph
    for record in (first, second):
        nodes = record.analyses["pairs"].nodes
        assert int(nodes.sampled.sum()) == 2 and bool(nodes.measured[nodes.sampled].all())
        names = [graph.nodes[i] for i in nodes.chosen.nonzero()[:, 0].tolist()]
        assert names == [plants.COPY]
    states = Timeline.of([first, second]).nodes
    assert set(states.loc[~states["measured"], "state"]) == {"inactive"}
    assert (Timeline.of([first, second]).counts["screen_error"] == 0).all()


def test_a_screen_that_errs_is_said(monkeypatch) -> None:
    """A sample that finds an active node: the record is weak."""
    monkeypatch.setattr(contrast, "ALL_NODES", 4)
    every = (torch.zeros_like, torch.ones_like)  # none chosen, all sampled
    monkeypatch.setattr(contrast, "_chosen", lambda likely, *_: tuple(f(likely) for f in every))
    analysis = analysed(plants.planted(), plants.pairs(32), **FINE)
    nodes = len(Graph(plants.LAYERS, plants.HEADS).nodes)
    timeline = Timeline.of([recorded(plants.planted(), plants.pairs(32), **FINE)])
    assert timeline.counts["screen_error"][0] == pytest.approx(1 / nodes)
    assert bool(analysis.nodes.sampled.all())
