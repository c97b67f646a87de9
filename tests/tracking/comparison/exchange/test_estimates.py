"""Estimates are what an exchange does in the limit of a small difference."""

import torch

from tests.builders.closeness import assert_close, correlation
from tests.builders.draws import arches
from tests.builders.two_models import changed
from tracking.comparison.exchange.crossed import Looks, crossed_nodes
from tracking.comparison.exchange.estimates import estimated_nodes
from tracking.model.decoder import Decoder


@arches
def test_a_small_difference_is_estimated_as_it_is(tiny_decoder, random_pairs, arch: str) -> None:
    base = tiny_decoder(arch, layers=3).double()
    trained = changed(base, 1, size=1e-4)
    ours, theirs = Decoder.of(base), Decoder.of(trained)
    looks = Looks.of_pairs(random_pairs(ragged=True), True)
    nodes = torch.ones(len(ours.graph.nodes), dtype=torch.bool)
    guess = estimated_nodes(ours, theirs, looks, 3)
    exact = crossed_nodes(ours, theirs, looks, nodes, 3)
    for way in ("lost", "gained"):
        assert correlation(getattr(guess, way), getattr(exact, way)) > 0.99
    assert_close(guess.base, exact.base)
    assert_close(guess.trained, exact.trained)
