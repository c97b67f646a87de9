"""Which part of a run's operations, and of its time at an H100's peak rates, tracking will be, from
counts and measured ratios."""

from __future__ import annotations

from collections.abc import Mapping

from tracking.pairs.prompt_pairs import PromptPairs
from train.config import Job
from train.costs.sizes import Sizes

# A record with exact effects over its floor, as measured (docs/circuits.md): the least in the tiny
# world, 128 pairs; the most 16 pairs of SmolLM2, 300 heads and MLPs, whose path takes more steps.
RATIOS = (2.7, 11.6)
FLOOR = 8  # forward and backward passes
# Of an H100 SXM, as NVIDIA's data sheet has them, without sparsity.
OPERATIONS = {"float32": 67e12, "tf32": 494e12, "bfloat16": 989e12, "float16": 989e12}  # a second
MEMORY = 3.35e12  # bytes a second
# Operations for each parameter and token, of a multiplication and an addition.
FORWARD, BACKWARD, TO_ACTIVATIONS = 2, 4, 2


def share(
    job: Job, sizes: Sizes, pairs: Mapping[str, PromptPairs], every: int
) -> tuple[float, float]:
    """The least and the most of all operations that analyses are, where one is made every so many
    steps, and sequences are as long as the longest. Generation is counted as one forward pass; that
    it takes longer makes the share of *time* smaller."""
    return _shares(_floor(sizes, pairs), every * operations_a_step(job, sizes))


def share_of_time(
    job: Job, sizes: Sizes, pairs: Mapping[str, PromptPairs], every: int, tf32: bool
) -> tuple[float, float]:
    """The same of the time that an H100 takes at its peak rates, of operations in the precision of
    the training and in that of the analysis (`tf32`: float32 by tensor cores), and of memory, from
    which generation reads all weights and its cache for each token. Nothing reaches such rates."""
    precision = "tf32" if tf32 and sizes.precision == "float32" else sizes.precision
    lower = "bfloat16" if job.training.bf16 else "float16" if job.training.fp16 else precision
    step = operations_a_step(job, sizes) / OPERATIONS[lower] + _bytes_read(job, sizes) / MEMORY
    return _shares(_floor(sizes, pairs) / OPERATIONS[precision], every * step)


def _floor(sizes: Sizes, pairs: Mapping[str, PromptPairs]) -> int:
    """Operations of a record's floor."""
    each = sum(of_contrast.clean.numel() for of_contrast in pairs.values())
    return FLOOR * (FORWARD + TO_ACTIVATIONS) * sizes.parameters * each


def _shares(floor: float, between: float) -> tuple[float, float]:
    low, high = (ratio * floor for ratio in RATIOS)
    return low / (low + between), high / (high + between)


def _bytes_read(job: Job, sizes: Sizes) -> float:
    """Bytes that generation reads in a training step: for each token the weights, which vLLM has in
    two bytes each, and what of the cache is there by then, half of it on average (vLLM's is not
    counted)."""
    args = job.training
    if job.name == "sft":
        return 0
    weights = 2 * sizes.parameters if getattr(args, "use_vllm", False) else sizes.weights
    batches = 1.0
    if job.name == "grpo":
        batches = args.gradient_accumulation_steps / args.steps_per_generation / args.num_iterations
    return batches * args.max_completion_length * (weights + sizes.cache / 2)


def operations_a_step(job: Job, sizes: Sizes) -> int:
    """Operations of a training step in one process."""
    args = job.training
    passes = FORWARD + BACKWARD
    if args.gradient_checkpointing:
        passes += FORWARD
    if job.name == "grpo":
        # Responses are used `num_iterations` times; their own probabilities are a pass where they
        # are used more than once, the reference's where there is one.
        again = FORWARD if args.num_iterations > 1 else 0
        passes += (FORWARD + again) / args.num_iterations + (FORWARD if args.beta else 0)
    others = 0
    if job.name == "distill":
        passes, others = passes + FORWARD, FORWARD * sizes.teacher_parameters
    tokens = sizes.sequences * args.gradient_accumulation_steps * sizes.tokens
    return int((passes * sizes.parameters + others) * tokens)
