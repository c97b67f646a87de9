"""What a dry run says of a job's costs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from datasets import Dataset

from tracking.pairs.prompt_pairs import PromptPairs
from train.config import Job
from train.costs.share import share, share_of_time
from train.costs.sizes import Sizes, sizes
from train.model import Start
from train.run.console import say
from train.run.preflight import save_every


def describe(
    job: Job,
    start: Start,
    rows: Dataset,
    pairs: Mapping[str, PromptPairs],
    teacher: Start | None = None,
) -> None:
    """Print memory, disk, and the share of tracking, or why they are not counted."""
    if job.model.load_in_4bit or job.model.load_in_8bit:
        say("memory     not counted: weights in 4 or 8 bits are made while they are loaded")
        return
    if getattr(job.training, "trust_remote_code", False):
        say("memory     not counted: the model is code of its own (trust_remote_code)")
        return
    counted = sizes(job, start, rows, pairs, teacher)
    say(f"memory     {size(counted.peak)} in each process, the whole model in each")
    say(f"           {', '.join(_parts(counted))}")
    if getattr(job.training, "use_vllm", False):
        say(f"           {_vllm(job)}")
    say(f"disk       {size(counted.checkpoint)} a checkpoint")
    every = save_every(job, len(rows))
    if pairs and every:
        low, high = share(job, counted, pairs, every)
        say(f"costs      tracking is {low:.1%} to {high:.1%} of all operations, by counting")
        if counted.precision != "float32" or job.training.bf16 or job.training.fp16:
            say(f"           {_time(job, counted, pairs, every)}")


def size(count: int) -> str:
    """Bytes for people, in powers of 1000."""
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count / 1e3:.3g} kB"


def _time(job: Job, counted: Sizes, pairs: Mapping[str, PromptPairs], every: int) -> str:
    """What of an H100's time tracking would take, in the precision of its analysis."""

    def between(tf32: bool) -> str:
        low, high = share_of_time(job, counted, pairs, every, tf32)
        return f"{low:.1%} to {high:.1%}"

    coarse, precision = bool(job.resolved["tf32"]), counted.precision
    words = "tf32" if coarse and precision == "float32" else precision
    if words == "float32":
        words += f"; with --tf32 true {between(True)}"
    return f"and {between(coarse)} of the time, at an H100's peak rates: analysis in {words}"


def _vllm(job: Job) -> str:
    """What vLLM takes, which is a part of whatever GPU it finds."""
    args = job.training
    if args.vllm_mode == "server":
        return "vLLM's own is on its server's GPUs, and not counted"
    share = args.vllm_gpu_memory_utilization
    total = ""
    if torch.cuda.is_available():
        total = f", {size(int(share * torch.cuda.mem_get_info()[1]))}"
    asleep = ", while it generates" if args.vllm_enable_sleep_mode else ", all the time"
    return f"and vLLM {share:.0%} of each GPU{total}{asleep}"


def _parts(counted: Sizes) -> list[str]:
    optimizer = counted.optimizer
    parts = [
        f"weights {size(counted.weights)} of {counted.parameters / 1e6:,.1f} million",
        f"gradients {size(counted.gradients)}",
        "optimizer not known" if optimizer is None else f"optimizer {size(optimizer)}",
        f"activations {size(counted.activations)} of {counted.sequences} x {counted.tokens} tokens",
    ]
    if counted.teacher:
        parts.append(f"teacher {size(counted.teacher)}")
    if counted.cache:
        parts.append(f"or generation's cache {size(counted.cache)}")
    if counted.analysis:
        parts.append(f"or the analysis {size(counted.analysis)}")
    if counted.shift:
        parts.append(f"or the shift's models {size(counted.shift)}")
    return parts
