"""A whole record at the true size of Qwen2.5-Math-1.5B, by part, beside its floor.

    python -m scripts.full_size
    python -m scripts.full_size --device cuda --pairs 64 --tokens 256 --dtype bfloat16

28 layers of 12 heads with random weights, the real tokenizer, and AMC23's problems as prompts, with
every digit changed in the corrupted ones. Weights that nothing has taught spread a behaviour over
all edges: circuits are large, and what runs them costs more than in a trained model. The floor is 8
bare forward and backward passes on the same pairs, in the same batches and run.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from scripts.bench.parts import STEPS, Cost, by_part, costing, floor
from scripts.bench.prompts import digit_pairs, random_pairs, told_apart
from scripts.bench.shapes import QWEN, build
from tracking.analysis import record
from tracking.contrast import Before, Subject
from tracking.errors import BadInput
from tracking.ledger.record import Analysis
from tracking.ledger.reward import Reward
from tracking.model.decoder import Decoder
from tracking.model.passes import fitting
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.settings import Settings

SHARED = Path(__file__).parents[2] / "shared"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CPU_GB = 6.0
HEADER = "| part | seconds | x floor | peak GB |\n|---|---|---|---|"


def measure(
    model: Any, pairs: PromptPairs, memory_gb: float, say: Callable[[str], None], records: int = 1
) -> None:
    """Says a Markdown table: the floor, then every part of a run's first `records` records as soon
    as it is done, all of this model, and what tells that they are right: patching at both ends.

    `pairs` need no labels; batches are those that fit into `memory_gb`.
    """
    decoder, device = Decoder.of(model), model.device
    batch_size = fitting(decoder, pairs, memory_gb)
    settings = Settings(batch_size=batch_size, memory_gb=memory_gb)
    pairs = told_apart(model, pairs, batch_size)
    say(f"{len(pairs)} pairs of {pairs.clean.shape[1]} tokens, {batch_size} a batch\n\n{HEADER}")
    costs: list[Cost] = []
    floor(model, pairs[:1], batch_size)  # kernels are loaded, memory is taken
    with costing(device, costs.append):
        floor(model, pairs, batch_size)

    def row(part: str, cost: Cost) -> None:
        ratio = cost.seconds / costs[0].seconds
        say(f"| {part} | {cost.seconds:.2f} | {ratio:.2f} | {cost.peak_gb:.2f} |")

    row(f"floor: {STEPS} forward and backward passes", costs[0])
    earlier: list[Analysis] = []
    for step in range(records):
        before = {"pairs": Before.of(earlier, settings.rank)}
        begin, reward = time.perf_counter(), Reward(None, "reward")
        with by_part(device, row):
            analysed = record(
                model, {"pairs": pairs}, settings, step, reward, Subject(), before=before
            )
        seconds = time.perf_counter() - begin
        say(f"| **whole record {step}** | {seconds:.2f} | {seconds / costs[0].seconds:.2f} | |")
        earlier.append(analysed.analyses["pairs"])
    say(f"\n{_told(earlier[0])}\n")


def _told(analysis: Analysis) -> str:
    """What tells that a record is right, and what its time hangs on."""
    circuit, measured = analysis.circuit, analysis.nodes.measured
    return (
        f"Behaviour with all edges patched {circuit.all_edges:.3f} of the model's own, with none "
        f"{circuit.no_edges:.3f}; gap of the integral {analysis.scores.gap:.3f}; a circuit of "
        f"{circuit.size} edges; {int(measured.sum())} of {len(measured)} nodes measured."
    )


def prompts(options: argparse.Namespace) -> PromptPairs:
    """The pairs that the options ask for, without labels; `BadInput` where there is no tokenizer
    or no problems."""
    if options.random_tokens:
        print("prompts: random tokens, one in eight changed\n", flush=True)
        return random_pairs(QWEN.vocabulary, options.pairs, options.tokens)
    from transformers import AutoTokenizer

    if not (options.tokenizer / "tokenizer.json").is_file():
        raise BadInput(
            f"{options.tokenizer} holds no tokenizer.json; name the folder of Qwen2.5's tokenizer "
            "with --tokenizer, or take --random_tokens"
        )
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    print(f"prompts: {options.problems}, every digit changed\n", flush=True)
    return digit_pairs(tokenizer, options.problems, options.pairs, options.tokens)


def room_gb(device: torch.device) -> float:
    """GB that an analysis may take beside the model that is there: 3/4 of what else a GPU has."""
    return 0.75 * torch.cuda.mem_get_info(device)[0] / 1e9 if device.type == "cuda" else CPU_GB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--tokenizer", type=Path, default=SHARED / "qwen-tokenizer")
    parser.add_argument("--problems", type=Path, default=SHARED / "data" / "amc23.jsonl")
    parser.add_argument("--random_tokens", action="store_true", help="no tokenizer, no problems")
    options = parser.parse_args()
    try:
        pairs = prompts(options)
    except BadInput as error:
        print(f"full_size: {error}", file=sys.stderr)
        sys.exit(2)
    model = build(replace(QWEN, dtype=DTYPES[options.dtype]), options.device)
    print(f"{QWEN.name}'s shape, random weights, {options.dtype} on {options.device}; ", end="")
    measure(model, pairs, room_gb(model.device), partial(print, flush=True))


if __name__ == "__main__":
    main()
