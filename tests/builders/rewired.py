"""A decoder in which two writers pass the answer to two readers, and one whose wires are swapped.

The answer is the token that stood first. `L0H0` and `L0H1` copy it into a channel of the stream
each; `L1H0` reads the first channel, `L1H1` the second, and both write it to the answer. Swapped,
the writers have exchanged their channels: heads, behaviour and sizes stay, the wires do not.
"""

from typing import Any

import torch
from transformers import Qwen2ForCausalLM

from tests.builders import planted
from tests.builders.planted import HEAD_DIM, TOKENS

FIRST = TOKENS // 2  # tokens 0..5 stand only at the first position
CHANNELS = (slice(24, 24 + FIRST), slice(31, 31 + FIRST))
WIRES = {False: ("L0H0->L1H0.v", "L0H1->L1H1.v"), True: ("L0H0->L1H1.v", "L0H1->L1H0.v")}
EDGES = 6  # from `embed` to both writers, on to both readers, on to `logits`


def rewired(swapped: bool, seed: int = 0) -> Qwen2ForCausalLM:
    """The decoder before or after the swap; all else of it is noise, the same in both."""
    model: Any = planted.planted(seed)
    with torch.no_grad():
        copier = int(planted.COPY[-1])
        attention = [layer.self_attn for layer in model.model.layers]
        attention[1].o_proj.weight[:, copier * HEAD_DIM : (copier + 1) * HEAD_DIM] = 0
        for head, channel in enumerate(CHANNELS):
            write(attention[0], head, CHANNELS[1 - head] if swapped else channel)
            read(attention[1], head, channel)
    return model


def write(attention: Any, head: int, channel: slice) -> None:
    """Attend to the first position and copy its token into a channel."""
    planted.plant(attention, head)
    rows = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
    attention.o_proj.weight[:, rows] = 0
    attention.o_proj.weight[channel, rows][:, :FIRST] = 4 * torch.eye(FIRST)


def read(attention: Any, head: int, channel: slice) -> None:
    """Attend everywhere alike and copy a channel, full at all positions, to the answer."""
    rows = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        projection.weight[rows] = 0
        projection.bias[rows] = 0
    attention.v_proj.weight[rows][:FIRST, channel] = torch.eye(FIRST)
    attention.o_proj.weight[:, rows] = 0
    attention.o_proj.weight[TOKENS : TOKENS + FIRST, rows][:, :FIRST] = 4 * torch.eye(FIRST)
