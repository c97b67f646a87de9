"""Which part of a run's operations its tracking will be, from counts and measured ratios."""

from __future__ import annotations

from collections.abc import Mapping

from tracking.pairs.prompt_pairs import PromptPairs
from train.config import Job
from train.costs.sizes import Sizes

# A record with exact effects over its floor, as measured (docs/circuits.md): the least in the tiny
# world, 128 pairs; the most 16 pairs of SmolLM2, 300 heads and MLPs, whose path takes more steps.
RATIOS = (3.1, 11.6)
FLOOR = 8  # forward and backward passes
# Operations for each parameter and token, of a multiplication and an addition.
FORWARD, BACKWARD, TO_ACTIVATIONS = 2, 4, 2


def share(
    job: Job, sizes: Sizes, pairs: Mapping[str, PromptPairs], every: int
) -> tuple[float, float]:
    """The least and the most of all operations that analyses are, where one is made every so many
    steps, and sequences are as long as the longest. Generation is counted as one forward pass; that
    it takes longer makes the share of *time* smaller."""
    each = sum(of_contrast.clean.numel() for of_contrast in pairs.values())
    floor = FLOOR * (FORWARD + TO_ACTIVATIONS) * sizes.parameters * each
    step = operations_a_step(job, sizes)
    low, high = (ratio * floor for ratio in RATIOS)
    return low / (low + every * step), high / (high + every * step)


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
