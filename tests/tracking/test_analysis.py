"""A record is made without a trace, by however little memory, and says how it was made."""

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.builders.analyses import flat
from tests.builders.decoders import in_training
from tests.builders.paths import REPO
from tests.builders.records import recorded
from tests.builders.untouched import assert_same, everything
from tracking.analysis import _halving
from tracking.ledger.record import Analysis


def as_bits(value: Any) -> Tensor:
    """Of a tensor or a number, so that NaN is NaN."""
    tensor = value if isinstance(value, Tensor) else torch.tensor([float(value or -1)])
    return tensor.contiguous().view(torch.uint8)


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


def test_where_memory_runs_out_batches_shrink_and_the_record_is_the_same() -> None:
    # a process of its own: how much room is too little depends on what one has let go of before
    kept = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-m", "tests.builders.short_of_memory"],
        env={**os.environ, **kept},
        cwd=REPO,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert "goes on with 6 pairs a batch" in ran.stderr


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
