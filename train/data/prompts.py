"""The rows that a job trains on, from its task (`train/tasks`)."""

from __future__ import annotations

from datasets import Dataset

from train.config import Job
from train.tasks.registry import training_task


def for_grpo(job: Job, split: str) -> Dataset:
    """Rows with a conversational `prompt`, and `solution` or `answer` for the rewards."""
    return training_task(job).for_grpo(split)


def for_sft(job: Job, split: str) -> Dataset:
    """Rows with `messages`, or with `prompt` and `completion`, or `text`."""
    return training_task(job).for_sft(split)
