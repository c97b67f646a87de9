"""Published models, small and random but with all their switches, are tracked as they compute."""

from pathlib import Path

import pytest
import torch

from tests.builders.closeness import assert_close
from tests.builders.comparisons import comparison_of
from tests.builders.decoders import drawn_weights
from tests.builders.edges import drawn
from tests.builders.node_patching import by_brute_force
from tests.builders.patched_twin import slowly
from tests.builders.published import PUBLISHED, scaled_down
from tests.builders.two_models import changed
from tracking.circuits.all_edges import check_all_edges
from tracking.circuits.faithfulness import Experiment
from tracking.errors import BadInput
from tracking.ledger.ledger import Ledger
from tracking.ledger.reward import Reward
from tracking.model.architecture import REFUSED
from tracking.model.decoder import Decoder
from tracking.nodes.effects import effects
from tracking.settings import Settings
from tracking.worker import Worker
from train.commands.compare import SECTIONS

FITTING = [name for name, config in PUBLISHED.items() if config["model_type"] not in REFUSED]
OTHERS = [name for name in PUBLISHED if name not in FITTING]


@pytest.mark.parametrize("name", FITTING)
def test_circuits_and_nodes_are_those_of_brute_force(random_pairs, name: str) -> None:
    model, pairs = drawn_weights(scaled_down(name), seed=1), random_pairs(pairs=2, seed=1)
    check_all_edges(Decoder.of(model), pairs)
    graph = Decoder.of(model).graph
    circuits = torch.stack([drawn(graph, kept, 1) for kept in (0.3, 0.8)])
    patched = Experiment.of(model, pairs, "neg_logit_diff", 2).run(list(circuits)).patched
    assert_close(patched, slowly(model, pairs, "neg_logit_diff", circuits), 1e-4)
    nodes = graph.nodes[:: len(graph.nodes) // 4]
    table = effects(model, pairs, nodes)
    corrupt, restore, _ = by_brute_force(model, pairs, [[node] for node in nodes])
    assert_close(torch.tensor(table["corrupt"]), corrupt.mean(0), 1e-4)
    assert_close(torch.tensor(table["restore"]), restore.mean(0), 1e-4)


@pytest.mark.parametrize("name", FITTING)
def test_a_record_is_made_of_it(random_pairs, tmp_path: Path, name: str) -> None:
    quick = Settings(ig_steps=2, max_ig_steps=2, resamples=10)
    worker = Worker(Ledger(tmp_path), {"letters": random_pairs()}, quick)
    record = worker.work(0, lambda: drawn_weights(scaled_down(name)), Reward(None, ""))
    assert record is not None and "letters" in record.analyses


@pytest.mark.parametrize("name", FITTING)
def test_it_is_compared_with_what_training_made_of_it(random_pairs, name: str) -> None:
    base = drawn_weights(scaled_down(name))
    models = {"base": base, "trained": changed(base, seed=1)}
    compared = comparison_of(models, random_pairs(), ig_steps=2, max_ig_steps=2, resamples=10)
    sections = {section.title: section for make in SECTIONS if (section := make(compared))}
    assert len(sections) >= 6
    nodes = next(one.tables["nodes"] for one in sections.values() if "nodes" in one.tables)
    assert {*Decoder.of(base).graph.nodes} == {*nodes["node"]}


@pytest.mark.parametrize("name", OTHERS)
def test_what_does_not_fit_is_refused_before_any_pass(name: str) -> None:
    with pytest.raises(BadInput, match=REFUSED[PUBLISHED[name]["model_type"]]):
        Decoder.of(drawn_weights(scaled_down(name)))
