"""`memory_gb` is what attribution takes: bytes are counted, and held against a process's own."""

import ctypes
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.campaign.running import processes
from tests.builders.decoders import make_decoder
from tests.builders.prompt_pairs import make_pairs
from tracking.attribution.integrals import EdgeIntegral
from tracking.attribution.metrics import resolve
from tracking.model.decoder import Decoder
from tracking.model.ends import Ends
from tracking.model.passes import Passes, bytes_each
from tracking.model.taps import tapped

TOLERANCE = 0.15
M_MMAP_THRESHOLD = -3
PAIRS = 12
MANY_HEADS = {"layers": 6, "heads": 8, "head_dim": 32, "width": 256}
MANY_TOKENS = {"layers": 4, "heads": 4, "kv_heads": 4, "head_dim": 64, "width": 256} | {
    "vocabulary": 8000
}


def status(line: str) -> int:
    """Bytes, as Linux counts them for this process."""
    return int(Path("/proc/self/status").read_text().partition(f"{line}:")[2].split()[0]) * 1024


def grow(shape: dict[str, Any], shared: int, answer: Any) -> None:
    """Send the bytes by which an attribution makes this process larger in which all pairs but one
    are done again, which takes the most; and the bytes that are counted."""
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 65536)  # what is let go of is given back
    torch.set_num_threads(1)
    decoder = Decoder.of(make_decoder(**shape))
    pairs = make_pairs(PAIRS, length=32, shared=shared)

    def attribute(count: int) -> None:
        again, losses = max(count - 1, 1), (resolve("neg_logit_diff"),)
        ends = Ends.of(decoder, pairs[:count])
        batch, clean, corrupted = ends.batch(losses), ends.clean.outputs, ends.corrupted.outputs
        del ends
        with tapped(decoder) as taps:
            passes = Passes(decoder, decoder.graph, taps, losses)
            integral = EdgeIntegral(passes, batch, corrupted.written_less(clean, decoder))
            del clean, corrupted
            some = integral.rows(torch.arange(again))
            some.over(torch.full((1, again), 0.5), torch.ones(1, again))

    attribute(1)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = status("VmRSS")
    attribute(PAIRS)
    answer.send((status("VmHWM") - before, PAIRS * bytes_each(decoder, pairs)))


@pytest.mark.parametrize(
    ("shape", "shared"),
    [
        (MANY_HEADS, 0),
        (MANY_HEADS, 16),
        (
            {
                "layers": 4,
                "heads": 4,
                "kv_heads": 4,
                "head_dim": 64,
                "width": 256,
                "vocabulary": 8000,
            },
            0,
        ),
    ],
    ids=["many heads", "many heads, half alike", "many tokens"],
)
def test_attribution_takes_what_is_counted(shape: dict[str, Any], shared: int) -> None:
    receiver, answer = processes.Pipe(duplex=False)
    process = processes.Process(target=grow, args=(shape, shared, answer))
    process.start()
    process.join()
    measured, counted = receiver.recv()
    assert counted == pytest.approx(measured, rel=TOLERANCE)
