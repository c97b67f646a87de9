"""What scores report follows from the scores per pair."""

from typing import Any

import pytest
import torch
from hypothesis import given

from tests.builders.closeness import assert_close
from tests.builders.draws import few, seeds
from tracking.attribution.attribute import attribute
from tracking.circuits.select import select
from tracking.errors import BadInput


@few(5)
@given(seed=seeds)
def test_what_is_reported_follows_from_the_scores_per_pair(
    tiny_decoder, random_pairs, seed: int
) -> None:
    scores = attribute(tiny_decoder(seed=seed), random_pairs(seed=seed), per_pair=True, steps=3)
    each, graph = scores.per_pair, scores.graph
    assert each is not None
    assert_close(scores.edges, each.mean(0), 1e-6)
    assert_close(scores.strength, each.abs().mean(0), 1e-6)
    assert not bool(each[:, ~graph.edge_mask].any())
    assert scores.edges.dtype == scores.strength.dtype == torch.float32
    assert scores.steps == 3
    rows: list[dict[str, Any]] = scores.heads.to_dict("records")  # type: ignore[assignment]
    for name, row in zip(graph.head_names, rows, strict=True):
        into = [scores.edges[:, graph.targets.index(f"{name}.{part}")] for part in "qkv"]
        out = scores.edges[graph.sources.index(name)]
        assert (row["head"], row["layer"]) == (name, int(name[1]))
        assert row["inflow"] == pytest.approx(float(torch.stack(into).abs().sum()), rel=1e-4)
        assert row["outflow"] == pytest.approx(float(out.abs().sum()), rel=1e-4)
        assert row["effect"] == pytest.approx(float(out.sum()), rel=1e-4, abs=1e-6)
        strength = scores.strength[graph.sources.index(name)].sum()
        assert row["strength"] == pytest.approx(float(strength), rel=1e-4)
    assert scores.edge("L0H1", "L1H2.k") == float(
        scores.edges[graph.sources.index("L0H1"), graph.targets.index("L1H2.k")]
    )


def test_a_circuit_is_of_the_size_that_is_asked_for(tiny_decoder, random_pairs) -> None:
    scores = attribute(tiny_decoder(), random_pairs())
    whole = select(scores, share=1.0)
    assert 0 < int(select(scores, share=0.5).edge_mask.sum()) < int(whole.edge_mask.sum())
    assert int(select(scores, edges=20).edge_mask.sum()) <= 20
    assert set(select(scores, edges=20).heads) <= set(whole.heads)
    sizes: list[dict[str, Any]] = [
        {},
        {"share": 0.5, "edges": 3},
        {"share": 0.5, "faithfulness": 0.8},
        {"share": 0.5, "greedy": True},
        {"faithfulness": 0.8, "greedy": True},
    ]
    for wrong in sizes:
        with pytest.raises(BadInput, match="one size"):
            select(scores, **wrong)
    with pytest.raises(BadInput, match="model and pairs"):
        select(scores, faithfulness=0.8)
    with pytest.raises(BadInput, match="'loud'"):
        select(scores, edges=3, rank="loud")
    grown = select(scores, edges=20, greedy=True)
    assert bool(grown.edge_mask.any()) and int(grown.edge_mask.sum()) <= 20
