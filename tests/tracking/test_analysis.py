"""A record holds what its parts say, knows what it is worth, and is made without a trace."""

import logging
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.builders import planted as plants
from tests.builders.analyses import flat, make_analysis
from tests.builders.decoders import in_training
from tests.builders.untouched import assert_same, everything
from tracking.analysis import _halving, record
from tracking.contrast import Subject
from tracking.attribution.attribute import attribute
from tracking.attribution.importance import head_effects, importance, shift
from tracking.circuits.curve import counts
from tracking.circuits.faithfulness import Experiment
from tracking.circuits.top_edges import by_count
from tracking.ledger.ledger import Ledger
from tracking.ledger.record import Analysis, Record
from tracking.ledger.reward import Reward
from tracking.model.graph import Graph
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.settings import Settings
from tracking.stability.agreement import SPLITS
from tracking.timeline.activity import Thresholds, null_turnover, verdict
from tracking.timeline.timeline import Timeline

VERDICTS = ("absent", "weak", "unconverged", "sound")


def recorded(model: Any, pairs: PromptPairs, step: int = 0, **more: Any) -> Record:
    quick = Settings(**{"ig_steps": 4, "max_ig_steps": 8, "resamples": 50, **more})
    return record(model, {"pairs": pairs}, quick, step, Reward(0.5, "reward"), Subject())


def analysed(model: Any, pairs: PromptPairs, **more: Any) -> Analysis:
    return recorded(model, pairs, **more).analyses["pairs"]


def planted(**more: Any) -> Record:
    return recorded(
        plants.planted(), plants.pairs(32), **{"ig_steps": 20, "max_ig_steps": 40, **more}
    )


def alike(pairs: PromptPairs) -> PromptPairs:
    """The same pairs with nothing corrupted in them."""
    return PromptPairs(pairs.clean, pairs.clean, pairs.attention_mask, pairs.labels)


def as_bits(value: Any) -> Tensor:
    """Of a tensor or a number, so that NaN is NaN."""
    tensor = value if isinstance(value, Tensor) else torch.tensor([float(value or -1)])
    return tensor.contiguous().view(torch.uint8)


# The record's parts


def test_the_planted_head_is_the_one_that_a_sound_record_names() -> None:
    found = planted()
    analysis = found.analyses["pairs"]
    assert verdict(analysis, Thresholds()) == "sound"
    assert analysis.circuit.faithfulness == pytest.approx(1, abs=0.05)
    assert analysis.circuit.complement == pytest.approx(0, abs=0.05)
    assert analysis.circuit.accuracy == analysis.circuit.clean_accuracy == 1
    assert analysis.stability.jaccard == analysis.stability.jaccard_low == 1
    assert analysis.circuit.cpr > 0.95 and analysis.circuit.cmd < 0.05
    assert null_turnover(analysis, Thresholds()).tolist() == [0] * SPLITS
    heads = Timeline.of([found]).heads
    assert heads["head"][heads["active"]].tolist() == [plants.COPY]
    there = heads[heads["head"] == plants.COPY].iloc[0]
    assert there["membership"] == there["membership_double"] == 1
    assert there["importance"] > 0.9


def test_numbers_of_a_record_are_what_its_parts_say(tiny_decoder, random_pairs) -> None:
    model, pairs = tiny_decoder(seed=1), random_pairs(pairs=20, ragged=True, seed=2)
    found = analysed(model, pairs, select="edges=30", quadrature="midpoint", ig_steps=4)
    scores = attribute(
        model, pairs, metric="prob", steps=4, quadrature="midpoint", batch_size=64, per_pair=True
    )
    graph = scores.graph
    assert scores.per_pair is not None
    assert torch.equal(found.scores.edge_scores, scores.edges) and torch.equal(
        found.scores.strength, scores.strength
    )
    assert torch.equal(found.heads.effect, head_effects(graph, scores.per_pair))
    assert torch.equal(found.circuit.circuit, by_count(graph, scores.edges, 30))
    runs = Experiment.of(model, pairs, "prob").run(
        [found.circuit.circuit, graph.edge_mask & ~found.circuit.circuit]
    )
    carried = (runs.patched - runs.corrupted).mean(1) / (runs.clean - runs.corrupted).mean()
    assert found.circuit.faithfulness == pytest.approx(float(carried[0]), abs=1e-4)
    assert found.circuit.complement == pytest.approx(float(carried[1]), abs=1e-4)
    assert found.scores.clean == pytest.approx(-float(runs.clean.mean()), abs=1e-5)
    assert found.scores.corrupted == pytest.approx(-float(runs.corrupted.mean()), abs=1e-5)
    assert found.scores.difference_low < found.scores.clean - found.scores.corrupted
    assert found.circuit.accuracy == pytest.approx(float(runs.right[0].mean()))
    assert found.circuit.clean_accuracy == pytest.approx(float(runs.clean_right.mean()))
    assert found.scores.gap == pytest.approx(scores.gap)
    sizes = torch.tensor(counts(graph)) / int(graph.edge_mask.sum())
    assert torch.allclose(found.circuit.curve[:, 0], sizes)
    assert found.circuit.curve[-1, 1:].tolist() == pytest.approx([1, 1, 1], abs=1e-4)
    assert (
        found.circuit.faithfulness_low
        <= found.circuit.faithfulness
        <= found.circuit.faithfulness_high
    )
    assert found.stability.jaccard_low <= found.stability.jaccard <= found.stability.jaccard_high
    assert -1 <= found.stability.rank_correlation <= 1


def test_all_edges_carry_everything_and_the_rest_nothing(tiny_decoder, random_pairs) -> None:
    found = analysed(tiny_decoder(), random_pairs(), select="share=1")
    graph = Graph(2, 4)
    assert torch.equal(found.circuit.circuit, graph.edge_mask)
    for number in (
        found.circuit.faithfulness,
        found.circuit.faithfulness_low,
        found.circuit.faithfulness_high,
    ):
        assert number == pytest.approx(1, abs=1e-4)
    assert found.circuit.complement == pytest.approx(0, abs=1e-4)
    assert found.circuit.accuracy == found.circuit.clean_accuracy
    assert found.stability.jaccard == 1 and bool(found.stability.in_circuit.all())
    assert float(found.stability.edge_membership[graph.edge_mask].min()) > 0.9
    assert not bool(found.stability.edge_membership[~graph.edge_mask].any())


@pytest.mark.parametrize("rank", ["signed", "absolute"])
@pytest.mark.parametrize("select", ["faithfulness=0.8", "share=0.9", "edges=40"])
def test_a_circuit_is_of_the_size_that_is_asked_for(
    tiny_decoder, random_pairs, select: str, rank: str
) -> None:
    found = analysed(tiny_decoder(seed=4), random_pairs(pairs=12), select=select, rank=rank)
    ranked = found.scores.edge_scores if rank == "signed" else found.scores.strength
    taken = ranked.abs() >= ranked.abs()[found.circuit.circuit].min()
    if select == "faithfulness=0.8":
        assert found.circuit.faithfulness >= 0.8 - 1e-5
    elif select == "edges=40":
        assert int(found.circuit.circuit.sum()) <= 40
    else:
        assert float(ranked.abs()[taken].sum()) <= 0.9 * float(ranked.abs().sum()) + float(
            ranked.abs()[found.circuit.circuit].min()
        )
    assert int(found.circuit.circuit.sum()) < int(Graph(2, 4).edge_mask.sum())
    half, same, twice = found.stability.ensemble
    assert bool((half <= same).all() and (same <= twice).all())  # a larger circuit holds a smaller
    assert float((same - found.stability.in_circuit.float().mean(0)).abs().max()) < 0.5


def test_the_ensemble_is_the_membership_at_half_and_twice_the_size(
    tiny_decoder, random_pairs
) -> None:
    model, pairs = tiny_decoder(seed=4), random_pairs(pairs=12)
    by_size = {
        size: analysed(model, pairs, select=f"edges={size}", quadrature="midpoint")
        for size in (30, 60, 120)
    }
    shares = [by_size[size].stability.in_circuit.float().mean(0) for size in (30, 60, 120)]
    found = by_size[60]
    weakest = found.scores.edge_scores.abs()[found.circuit.circuit].min()
    assert (
        int((found.scores.edge_scores.abs() >= weakest).sum()) == 60
    )  # the weakest was not pruned
    assert torch.allclose(found.stability.ensemble, torch.stack(shares))


def test_a_model_in_training_is_as_before_and_a_record_the_same_again(
    tiny_decoder, random_pairs
) -> None:
    model, pairs = in_training(tiny_decoder, "qwen2"), random_pairs(pairs=12)
    before = everything(model)
    first = recorded(model, pairs)
    assert_same(before, everything(model))
    torch.randn(3)  # whatever was drawn before
    second = recorded(model, pairs)
    for name, ours in flat(first.analyses["pairs"]).items():
        theirs = flat(second.analyses["pairs"])[name]
        assert torch.equal(as_bits(ours), as_bits(theirs)), name
    assert first.settings["select"] == "faithfulness=0.8" and first.settings["rank"] == "signed"


# Behaviour that is not there


def test_a_behaviour_that_is_absent_is_said_to_be_from_model_to_timeline(
    tiny_decoder, random_pairs, tmp_path: Path
) -> None:
    ledger = Ledger(tmp_path)
    ledger.write(recorded(tiny_decoder(), alike(random_pairs(pairs=12))))
    (found,) = ledger.records()
    analysis = found.analyses["pairs"]
    assert (
        analysis.circuit.faithfulness != analysis.circuit.faithfulness
    )  # there is nothing to carry
    assert (
        analysis.scores.clean == analysis.scores.corrupted and analysis.scores.difference_low == 0
    )
    assert verdict(analysis, Thresholds()) == "absent"
    timeline = Timeline.of([found])
    assert timeline.counts["verdict"].tolist() == ["absent"]
    assert timeline.counts["active"].tolist() == [0]
    assert set(timeline.heads["state"]) == {"inactive"}
    assert not timeline.heads["undecided"].any()


def test_a_behaviour_that_comes_has_no_base_heads() -> None:
    """Untrained, then with a head planted; the pairs stay the same."""
    model, pairs = plants.planted(), plants.pairs(32)
    plain = plants.planted()
    plain.lm_head.weight.data.zero_()  # it answers nothing
    records = [
        recorded(each, pairs, step, ig_steps=20, max_ig_steps=40)
        for step, each in ((0, plain), (10, model))
    ]
    timeline = Timeline.of(records)
    assert timeline.counts["verdict"].tolist() == ["absent", "sound"]
    last = timeline.at(10, "pairs")
    assert last["state"][last["active"]].tolist() == ["new"]
    assert last["head"][last["active"]].tolist() == [plants.COPY]


# What a record is worth


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({}, "sound"),
        ({"difference_low": 0.019}, "absent"),
        ({"difference_low": -0.5}, "absent"),
        ({"difference_low": 0.02}, "sound"),
        ({"faithfulness": 0.69}, "weak"),
        ({"faithfulness": 0.7}, "sound"),
        ({"faithfulness": float("nan")}, "weak"),
        ({"faithfulness": 1.7}, "sound"),
        ({"jaccard": 0.49}, "weak"),
        ({"jaccard": 0.5}, "sound"),
        ({"gap": 0.051}, "unconverged"),
        ({"gap": 0.05}, "sound"),
        ({"gap": 0.5, "jaccard": 0.1}, "weak"),
        ({"gap": 0.5, "jaccard": 0.1, "difference_low": 0.0}, "absent"),
    ],
)
def test_a_verdict_is_one_word(more: dict[str, float], wanted: str) -> None:
    assert verdict(make_analysis(Graph(1, 2), **more), Thresholds()) == wanted


@given(st.tuples(*[st.floats(0, 1)] * 4), st.tuples(*[st.floats(0.001, 1)] * 4))
def test_stricter_thresholds_make_no_record_better(
    numbers: tuple[float, ...], thresholds: tuple[float, ...]
) -> None:
    names = ("difference_low", "faithfulness", "jaccard", "gap")
    found = make_analysis(Graph(1, 1), **dict(zip(names, numbers, strict=True)))
    least, gap, faithful, agreed = thresholds
    loose = Thresholds(0.9, least, gap, faithful, agreed)
    strict = Thresholds(0.9, min(2 * least, 1), gap / 2, min(2 * faithful, 1), min(2 * agreed, 1))
    worse, better = (VERDICTS.index(verdict(found, each)) for each in (strict, loose))
    assert worse <= better


def with_active(step: int, active: list[bool], **more: Any) -> Record:
    heads = torch.tensor(active)
    analysis = make_analysis(
        Graph(1, len(active)),
        **{
            "in_circuit": heads.expand(10, -1),
            "effect": (heads * 0.5).expand(8, -1),
            **more,
        },
    )
    return Record(step, 1, len(active), "ab12", {"pairs": analysis})


def test_an_absent_record_makes_heads_inactive_and_no_other_does() -> None:
    word = {"absent": {"difference_low": 0.0}, "weak": {"jaccard": 0.1}, "unconverged": {"gap": 1}}
    on = [True, False]
    told = ["sound", "absent", "weak", "unconverged"]
    records = [with_active(step, on, **word.get(one, {})) for step, one in enumerate(told)]
    timeline = Timeline.of(records)
    assert timeline.counts["verdict"].tolist() == told
    assert timeline.heads["verdict"].tolist() == np.repeat(told, 2).tolist()
    assert timeline.counts["active"].tolist() == [1, 0, 1, 1]
    states = timeline.heads["state"].to_numpy().reshape(4, 2)
    assert states[:, 0].tolist() == ["base", "faded", "retained", "retained"]
    assert timeline.counts["converged"].tolist() == [True, True, True, False]
    loose = Timeline.of(records, Thresholds(effect=0.02, gap=1, weak_jaccard=0.1))
    assert loose.counts["verdict"].tolist() == ["sound", "absent", "sound", "sound"]


def test_an_undecided_head_is_not_undecided_where_nothing_is_there() -> None:
    maybe = torch.arange(10)[:, None] < torch.tensor([5, 10])
    first = with_active(0, [False, True], in_circuit=maybe)
    second = with_active(1, [True, True], in_circuit=maybe, difference_low=0.0)
    heads = Timeline.of([first, second]).heads
    assert heads["undecided"].tolist() == [False] * 4
    third = with_active(2, [True, True], in_circuit=maybe)
    heads = Timeline.of([first, second, third]).heads
    assert heads["undecided"].tolist() == [False] * 4 + [True, False]


def test_the_timeline_has_the_ensemble_and_the_importance_of_every_head() -> None:
    graph, records = Graph(1, 2), []
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        edges = torch.randn(graph.edge_mask.shape, generator=generator) * graph.edge_mask
        ensemble = torch.rand(3, 2, generator=generator)
        records.append(with_active(step, [True, False], edge_scores=edges, ensemble=ensemble))
    timeline = Timeline.of(records)
    flows = [importance(graph, each.analyses["pairs"].scores.edge_scores) for each in records]
    for step, (each, flow) in enumerate(zip(records, flows, strict=True)):
        rows, sizes = timeline.at(step, "pairs"), each.analyses["pairs"].stability.ensemble
        assert rows["membership_half"].tolist() == pytest.approx(sizes[0].tolist())
        assert rows["membership_double"].tolist() == pytest.approx(sizes[2].tolist())
        for name in ("importance", "importance_symmetric"):
            assert rows[name].tolist() == pytest.approx(flow[name].tolist())
        if step == 0:
            assert rows["shift"].isna().all()
        else:
            before, after = (flows[at]["importance"].to_numpy() for at in (step - 1, step))
            assert rows["shift"].tolist() == pytest.approx(shift(before, after).tolist())
    counts_of = timeline.counts.iloc[0]
    analysis = records[0].analyses["pairs"]
    for name in ("faithfulness", "complement", "accuracy", "cpr", "cmd", "jaccard", "gap"):
        assert counts_of[name] == analysis.numbers[name]
    assert counts_of["pairs"] == 16
    assert counts_of["null"] == 0 and counts_of["null_high"] == 0


def test_the_null_is_a_mean_and_what_hardly_any_split_exceeds() -> None:
    generator = torch.Generator().manual_seed(0)
    halves = {
        "half_membership": torch.rand(41, 2, 6, generator=generator).round(),
        "half_effect": torch.ones(41, 2, 6),
        "half_error": torch.zeros(41, 2, 6),
    }
    record = with_active(0, [True] * 6, **halves)
    null = null_turnover(record.analyses["pairs"], Thresholds())
    assert float(null.min()) < float(null.max())
    counted = Timeline.of([record]).counts.iloc[0]
    assert counted["null"] == pytest.approx(float(null.mean()))
    assert counted["null_high"] == pytest.approx(float(null.quantile(0.975)))


# Memory


def within(room: int, work: Callable[[], None]) -> int:
    """The exit code of `work` in a process whose memory can grow by `room` bytes and no more."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + room, resource.RLIM_INFINITY))
        work()
        os._exit(0)
    finally:
        os._exit(4)


def test_where_memory_runs_out_batches_shrink_and_the_record_is_the_same(
    tiny_decoder: Any, random_pairs: Any, tmp_path: Path
) -> None:
    model, pairs = tiny_decoder(heads=2, head_dim=16, width=512), random_pairs(24, 128)
    keys = {"select": "edges=9", "quadrature": "midpoint", "ig_steps": 2, "resamples": 10}
    whole = analysed(model, pairs, **keys)
    told = tmp_path / "told"

    def work() -> None:
        with told.open("w") as file:
            logging.basicConfig(stream=file, force=True)
            found = analysed(model, pairs, **keys)
        assert torch.allclose(found.scores.edge_scores, whole.scores.edge_scores, atol=1e-6)
        assert torch.equal(found.circuit.circuit, whole.circuit.circuit)

    assert within(40 * 2**20, work) == 0
    assert "out of memory: the analysis goes on with 12 pairs a batch" in told.read_text()


def test_a_pair_that_does_not_fit_by_itself_is_an_error() -> None:
    tried = []

    def make(batch_size: int) -> Analysis:
        tried.append(batch_size)
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(torch.OutOfMemoryError):
        _halving(12, make)
    assert tried == [12, 6, 3, 1]
    with pytest.raises(RuntimeError, match="shapes"):
        _halving(12, lambda batch_size: exec("raise RuntimeError('shapes')"))  # type: ignore[arg-type]
