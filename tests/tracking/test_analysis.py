"""A record is made without a trace, by however little memory, and says how it was made."""

import ctypes
import logging
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.builders.analyses import flat
from tests.builders.decoders import in_training
from tests.builders.records import analysed, recorded
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


# Memory


M_MMAP_THRESHOLD = -3


def within(room: int, work: Callable[[], None]) -> int:
    """The exit code of `work` in a process whose memory can grow by `room` bytes and no more."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        ctypes.CDLL(None).mallopt(
            M_MMAP_THRESHOLD, 1 << 16
        )  # nothing that was let go is taken again
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

    def halved(megabytes: int) -> bool:
        ended = within(megabytes * 2**20, work)
        return ended == 0 and "goes on with 12 pairs a batch" in told.read_text()

    # how much room is too little depends on what the process has let go of before
    assert any(halved(megabytes) for megabytes in (60, 80, 50, 100, 40, 120, 30))


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
