"""What is measured in one model is measured in all."""

from dataclasses import replace

import torch

from tests.builders import planted as plants
from tests.builders.comparisons import comparison_of
from tracking.comparison.measured import measured_alike
from tracking.comparison.party import Party


def without(party: Party, node: int) -> Party:
    """With a node left out of its record."""
    record, analysis = party.record, party.record.analyses["pairs"]
    effects = {name: getattr(analysis.nodes, name).clone() for name in ("corrupt", "restore")}
    for effect in effects.values():
        effect[:, node] = torch.nan
    left = replace(analysis, nodes=replace(analysis.nodes, **effects))
    return replace(party, record=replace(record, analyses={"pairs": left}))


def test_a_node_left_out_of_one_record_is_measured_there() -> None:
    whole = comparison_of({name: plants.planted() for name in "ab"}, plants.pairs(16)).parties
    node = whole[0].record.graph.nodes.index(plants.COPY)
    parties = measured_alike([without(whole[0], node), whole[1]], 16)
    for before, after in zip(whole, parties, strict=True):
        for name in ("corrupt", "restore"):
            was, now = (getattr(p.record.analyses["pairs"].nodes, name) for p in (before, after))
            assert torch.allclose(was, now, atol=1e-4)


def test_what_no_record_measures_is_left_and_so_is_a_model_that_is_gone() -> None:
    whole = comparison_of({name: plants.planted() for name in "ab"}, plants.pairs(16)).parties
    nowhere = [without(party, 3) for party in whole]
    for party in measured_alike(nowhere, 16):
        assert party.record.analyses["pairs"].nodes.corrupt[:, 3].isnan().all()
    gone = replace(without(whole[0], 3), load=None)
    first, _ = measured_alike([gone, whole[1]], 16)
    assert first.record.analyses["pairs"].nodes.corrupt[:, 3].isnan().all()
