"""The tasks and the models that recipes name; any other name is a file, a folder or the Hub's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.config import Job
from train.tasks.task import Task
from train.tasks.tiny import Tiny
from train.tasks.words import WordProblems
from train.tiny.base import base_model
from train.tiny.tokenizer import tokenizer

TASKS: dict[str, type[Task]] = {"tiny": Tiny}


@dataclass(frozen=True)
class EmbeddedModel:
    """A model that is made in place: its tokenizer, and its folder by seed."""

    tokenizer: Callable[[], Any]
    folder: Callable[[int], Path]


MODELS = {"tiny": EmbeddedModel(tokenizer, base_model)}


def training_task(job: Job) -> Task:
    """What the job trains on; data that is no task by name is word problems, or in the trainers'
    own shape."""
    return TASKS.get(job.script.dataset_name, WordProblems)(job)


def pairs_task(job: Job) -> Task:
    """What the job's prompt pairs are made of: `track_pairs_dataset`, or what it trains on."""
    ours, script = job.ours, job.script
    name = ours.track_pairs_dataset or script.dataset_name or job.mixture.datasets[0].path
    return TASKS.get(name, WordProblems)(job)
