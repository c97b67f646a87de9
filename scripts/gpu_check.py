"""What only a GPU can answer, in one command of under nine minutes: a Markdown table.

    python -m scripts.gpu_check                 # 80 GB of GPU memory
    python -m scripts.gpu_check --device cpu    # small sizes, to try the command itself

1. equality: scores, exact effects, patched runs and roles on the GPU are those of the CPU;
2. attention: scores with every attention kernel that is there, against eager float32;
3. bfloat16, tf32, float32: a whole record at the size of Qwen2.5-Math-1.5B, its floor and its
   memory, by part, as `scripts.full_size` makes it.

It takes torch, transformers, numpy, pandas, scipy and safetensors, and no file beside this
repository: weights and tokens are random. Each part runs in a process of its own, so that one that
fails or lasts too long leaves the others; what is measured is written at once, to `gpu_check.md` in
the folder `$OUT`, or here. The exit code is 1 where a part failed.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Timer
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from scripts.bench.prompts import random_pairs, told_apart
from scripts.bench.shapes import QWEN, Shape, build
from scripts.full_size import measure, room_gb
from tracking.attribution.attribute import attribute
from tracking.circuits.curve import counts
from tracking.circuits.faithfulness import Experiment
from tracking.circuits.top_edges import by_count
from tracking.nodes.effects import effects
from tracking.nodes.roles import roles
from tracking.pairs.prompt_pairs import PromptPairs

METRIC = "neg_logit_diff"
SECONDS = 520  # for all parts
EQUAL = 1e-4  # of the largest value
ALIKE = 0.9  # correlation of scores in bfloat16 with those in float32
SMALL = Shape(
    "small", 3, 4, 2, 16, 64, 128, 512, pairs=6, tokens=20, batch_size=4, dtype=torch.float32
)
KERNELS = {
    "sdpa math": SDPBackend.MATH,
    "sdpa efficient": SDPBackend.EFFICIENT_ATTENTION,
    "sdpa flash": SDPBackend.FLASH_ATTENTION,
    "sdpa cudnn": SDPBackend.CUDNN_ATTENTION,
}
WHOLE = {"cuda": QWEN, "cpu": SMALL}
FEW_LAYERS = {"cuda": replace(QWEN, layers=8, pairs=8), "cpu": SMALL}
Say = Callable[[str], None]


def equality(device: str, say: Say) -> None:
    """Float32 on a small model, with padding: the largest difference from the CPU."""
    on_cpu = build(SMALL, "cpu")
    for parameter in on_cpu.parameters():
        if parameter.ndim == 2:
            parameter.data *= 6  # attention is not even, and logits are not tiny
    pairs = told_apart(on_cpu, _ragged(random_pairs(SMALL.vocabulary, 8, SMALL.tokens)), 8)
    there: Any = copy.deepcopy(on_cpu)
    ours, theirs = (_read(model, pairs) for model in (there.to(device), on_cpu))
    say("| float32, small model | difference from the CPU, largest of largest |\n|---|---|")
    apart = {
        name: float((ours[name] - value).abs().max() / value.abs().max())
        for name, value in theirs.items()
    }
    for name, difference in apart.items():
        say(f"| {name} | {difference:.1e} |")
    if not max(apart.values()) <= EQUAL:
        sys.exit(f"not the CPU's: more than {EQUAL} apart")


def _ragged(pairs: PromptPairs) -> PromptPairs:
    """The same pairs, each a token shorter than the one before: padding on the right."""
    rows, positions = pairs.clean.shape
    mask = torch.arange(positions) < positions - torch.arange(rows)[:, None]
    return PromptPairs(pairs.clean, pairs.corrupted, mask.long())


def _read(model: Any, pairs: PromptPairs) -> dict[str, Tensor]:
    """What the analysis reads of a model, by name."""
    scores = attribute(model, pairs, metric=METRIC, batch_size=4)
    experiment = Experiment.of(model, pairs, METRIC, batch_size=4)
    ranked = torch.rand(scores.edges.shape, generator=torch.Generator().manual_seed(0))
    circuits = [by_count(scores.graph, ranked, count) for count in counts(scores.graph)]
    columns = effects(model, pairs)[["corrupt", "restore"]]
    by_head = roles(model, pairs).frame().drop(columns=["head", "main", "digits"])
    return {
        "scores of edges": scores.edges,
        "exact effects of nodes": torch.tensor(columns.to_numpy()),
        f"patched runs of {len(circuits)} circuits": experiment.run(circuits).patched,
        "roles": torch.tensor(by_head.to_numpy()).nan_to_num(),
    }


def attention(device: str, say: Say) -> None:
    """Scores in bfloat16 with every kernel: time, and how like those in float32 they are."""
    shape = replace(FEW_LAYERS[device], dtype=torch.bfloat16)
    model, pairs = build(shape, device), random_pairs(shape.vocabulary, shape.pairs, shape.tokens)
    pairs = told_apart(model, pairs, shape.pairs)
    exact = copy.deepcopy(model).float()
    exact.set_attn_implementation("eager")
    wanted = attribute(exact, pairs, metric=METRIC, batch_size=shape.batch_size).edges
    say(f"{shape.layers} layers, {shape.pairs} pairs of {shape.tokens} tokens, bfloat16\n")
    say("| kernel | seconds | correlation with eager float32 |\n|---|---|---|")
    unlike = []
    for name in ("eager", *KERNELS, "flash_attention_2"):
        try:
            seconds, edges = _with_kernel(model, pairs, name, shape.batch_size)
        except (ImportError, RuntimeError) as error:
            if not _not_here(error):
                raise
            say(f"| {name} | not here | |")
            continue
        alike = float(torch.corrcoef(torch.stack([edges.flatten(), wanted.flatten()]))[0, 1])
        say(f"| {name} | {seconds:.2f} | {alike:.4f} |")
        if not alike >= ALIKE:
            unlike.append(name)
    if unlike:
        sys.exit(f"scores unlike those of float32 with {', '.join(unlike)}")


def _with_kernel(
    model: Any, pairs: PromptPairs, name: str, batch_size: int
) -> tuple[float, Tensor]:
    """Seconds and scores [source, target] with one attention kernel, the second time around."""
    model.set_attn_implementation("sdpa" if name in KERNELS else name)

    def run() -> Tensor:
        with sdpa_kernel(KERNELS[name]) if name in KERNELS else nullcontext():
            return attribute(model, pairs, metric=METRIC, batch_size=batch_size).edges

    run()  # so that kernels are loaded
    begin = time.perf_counter()
    edges = run()
    return time.perf_counter() - begin, edges


def _not_here(error: Exception) -> bool:
    """Whether a kernel is not on this machine, or not for this device."""
    refusals = ("No available kernel", "No viable backend")
    return isinstance(error, ImportError) or any(refusal in str(error) for refusal in refusals)


def whole(dtype: torch.dtype, pairs: int, records: int, device: str, say: Say) -> None:
    """`records` records of a run at the true size, by part."""
    shape = replace(WHOLE[device], dtype=dtype)
    model = build(shape, device)
    some = random_pairs(shape.vocabulary, min(pairs, shape.pairs), shape.tokens)
    measure(model, some, room_gb(model.device), say, records)


PARTS: dict[str, Callable[[str, Say], None]] = {
    "equality": equality,
    "attention": attention,
    "bfloat16": partial(whole, torch.bfloat16, QWEN.pairs, 2),
    "tf32": partial(whole, torch.float32, QWEN.pairs // 2, 1),
    "float32": partial(whole, torch.float32, QWEN.pairs // 2, 1),
}


def run_part(part: str, device: str, seconds: float, say: Say) -> bool:
    """Says what a part prints in a process of its own, line by line, and why it failed; whether it
    did not."""
    command = [sys.executable, "-m", "scripts.gpu_check", "--device", device, "--part", part]
    say(f"\n### {part}\n")
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        timer = Timer(max(seconds, 0), process.terminate)
        timer.start()
        assert process.stdout is not None
        for line in process.stdout:
            say(line.rstrip())
        code = process.wait()
        timer.cancel()
        errors.seek(0)
        reason = errors.read().strip() or f"exit code {code}"
    if code == -signal.SIGTERM:
        reason = f"not done after {seconds:.0f} s"
    if code:
        print(reason, file=sys.stderr)
        say(f"\nfailed: {reason.splitlines()[-1]}")
    return not code


def heading(device: str) -> str:
    """What it was measured on."""
    gpu = torch.cuda.get_device_properties(0) if device == "cuda" else None
    name = f"{gpu.name}, {gpu.total_memory / 1e9:.0f} GB" if gpu else f"CPU, {platform.machine()}"
    return f"{name}; torch {torch.__version__}, transformers {transformers.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--output", type=Path, help="the file, instead of one in $OUT or here")
    parser.add_argument("--part", choices=PARTS, help="this one alone, in this process")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("gpu_check: torch sees no GPU; try it with --device cpu", file=sys.stderr)
        sys.exit(2)
    if options.part:
        coarse = options.device == "cuda" and options.part == "tf32"
        torch.backends.cuda.matmul.fp32_precision = "tf32" if coarse else "ieee"
        PARTS[options.part](options.device, partial(print, flush=True))
        return
    end = time.monotonic() + SECONDS
    output = options.output or Path(os.environ.get("OUT", ".")) / "gpu_check.md"
    with output.open("w") as file:

        def say(line: str) -> None:
            print(line, flush=True)
            print(line, file=file, flush=True)

        say(heading(options.device))
        right = [run_part(part, options.device, end - time.monotonic(), say) for part in PARTS]
    sys.exit(0 if all(right) else 1)


if __name__ == "__main__":
    main()
