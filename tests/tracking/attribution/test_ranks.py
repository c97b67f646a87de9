"""Pairs that the ranks of a distributed run share."""

from itertools import product
from pathlib import Path

import pytest
import torch

from tests.builders.ranks import in_two
from tracking.attribution.attribute import attribute


@pytest.mark.slow
def test_two_processes_find_what_one_does(tiny_decoder, random_pairs, tmp_path: Path) -> None:
    model, pairs, rules = tiny_decoder(kv_heads=2), random_pairs(7, 9), ("midpoint", "adaptive")

    def work(rank: int) -> None:
        for rule in rules:
            options = {"metric": "prob", "steps": 4, "quadrature": rule, "per_pair": True}
            both = [
                attribute(model, pairs, **options, batch_size=2, split_over_ranks=split)
                for split in (False, True)
            ]
            torch.save(both, tmp_path / f"{rule}-{rank}.pt")

    assert in_two(tmp_path, work) == [0, 0]
    for rule, rank in product(rules, (0, 1)):
        alone, shared = torch.load(tmp_path / f"{rule}-{rank}.pt", weights_only=False)
        for name in ("edges", "strength", "clean", "corrupted", "per_pair"):
            assert torch.equal(getattr(alone, name), getattr(shared, name))
        assert alone.steps == shared.steps and alone.gap == shared.gap
