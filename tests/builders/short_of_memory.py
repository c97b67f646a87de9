"""Analyses pairs with room for half of them at once: python -m tests.builders.short_of_memory"""

from __future__ import annotations

import logging
import multiprocessing
import resource
from pathlib import Path

import torch

from tests.builders.decoders import make_decoder
from tests.builders.prompt_pairs import make_pairs
from tracking.analysis import analyse
from tracking.ledger.record import Analysis
from tracking.settings import Settings

PAIRS = 12


def address_space(line: str) -> int:
    """This process's `VmSize` or its `VmPeak`, in bytes; a copy's peak begins at its size."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{line}:")[2].split()[0]) * 1024


def analysed(batch_size: int) -> Analysis:
    """The same model and pairs at every call."""
    model = make_decoder(heads=2, head_dim=16, width=256)
    settings = Settings(
        select="edges=9", quadrature="midpoint", ig_steps=2, resamples=10, batch_size=batch_size
    )
    return analyse(model, {"pairs": make_pairs(PAIRS, 128)}, settings)["pairs"]


def growth(batch_size: int) -> int:
    """Bytes that an analysis takes, tried in a copy of this process."""
    ours, theirs = multiprocessing.Pipe()

    def work() -> None:
        before = address_space("VmSize")
        analysed(batch_size)
        theirs.send(address_space("VmPeak") - before)

    copy = multiprocessing.get_context("fork").Process(target=work)
    copy.start()
    copy.join()
    return ours.recv()


def main() -> None:
    logging.basicConfig()
    few, all_at_once = growth(PAIRS // 2), growth(PAIRS)
    assert few < all_at_once, (few, all_at_once)
    limit = address_space("VmSize") + (few + all_at_once) // 2
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    small = analysed(PAIRS)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    whole = analysed(PAIRS)
    assert torch.allclose(small.scores.edge_scores, whole.scores.edge_scores, atol=1e-6)
    assert torch.equal(small.circuit.circuit, whole.circuit.circuit)


if __name__ == "__main__":
    main()
