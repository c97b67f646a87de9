"""Analyses pairs with room for half of them at once: python -m tests.builders.short_of_memory"""

from __future__ import annotations

import logging
import multiprocessing
import resource
from pathlib import Path

import numpy as np

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


def in_a_copy(batch_size: int) -> tuple[int, np.ndarray, np.ndarray]:
    """Bytes that an analysis takes in a copy of this process, its edges' scores and its circuit."""
    ours, theirs = multiprocessing.Pipe()

    def work() -> None:
        before = address_space("VmSize")
        analysis = analysed(batch_size)
        growth = address_space("VmPeak") - before
        theirs.send((growth, analysis.scores.edge_scores.numpy(), analysis.circuit.circuit.numpy()))

    copy = multiprocessing.get_context("fork").Process(target=work)
    copy.start()
    answer = ours.recv()
    copy.join()
    return answer


def main() -> None:
    logging.basicConfig()
    few, *_ = in_a_copy(PAIRS // 2)
    all_at_once, scores, circuit = in_a_copy(PAIRS)
    assert few < all_at_once, (few, all_at_once)
    limit = address_space("VmSize") + (few + all_at_once) // 2
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    small = analysed(PAIRS)
    assert np.allclose(small.scores.edge_scores.numpy(), scores, atol=1e-6)
    assert np.array_equal(small.circuit.circuit.numpy(), circuit)


if __name__ == "__main__":
    main()
