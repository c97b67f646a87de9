"""The tasks and the models that recipes name; any other name is a file, a folder or the Hub's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoConfig

from tracking.errors import BadInput
from train.config import Job
from train.smollm2 import smollm2, smollm2_tokenizer
from train.tasks.reasoning_gym import ReasoningGym
from train.tasks.task import Task
from train.tasks.tiny import Tiny
from train.tasks.word_problems import WordProblems
from train.tiny.base import BaseSettings, base_model, configuration
from train.tiny.teacher import TEACHER, teacher_model
from train.tiny.tokenizer import tokenizer

# A name that ends in / stands for all that begin with it.
TASKS: dict[str, type[Task]] = {"tiny": Tiny, "reasoning-gym/": ReasoningGym}


@dataclass(frozen=True)
class NamedModel:
    """A model that lies in Sparks or in its cache: its tokenizer, its configuration, which can be
    had without it, and its folder by seed."""

    tokenizer: Callable[[], Any]
    config: Callable[[], Any]
    folder: Callable[[int], Path]
    seeded: bool = True  # whether there is another for each seed
    one_thread: bool = False  # so small that sharing an operation costs more than it saves


MODELS = {
    "tiny": NamedModel(
        tokenizer, lambda: configuration(BaseSettings(), tokenizer()), base_model, one_thread=True
    ),
    "tiny-teacher": NamedModel(
        tokenizer, lambda: configuration(TEACHER, tokenizer()), teacher_model, one_thread=True
    ),
    "smollm2": NamedModel(
        smollm2_tokenizer,
        lambda: AutoConfig.from_pretrained(smollm2()),
        lambda seed: smollm2(),
        seeded=False,
    ),
}


def training_task(job: Job) -> Task:
    """What the job trains on; data that is no task by name is word problems, or in the trainers'
    own shape. `BadInput` where it is given what only a generator reads."""
    kind = _kind(job.script.dataset_name)
    if kind is not ReasoningGym and (job.ours.dataset_parameters or job.ours.dataset_question):
        raise BadInput("dataset_parameters and dataset_question are for reasoning-gym/... alone")
    return kind(job)


def pairs_task(job: Job) -> Task:
    """What the job's prompt pairs are made of: `track_pairs_dataset`, or what it trains on."""
    ours, script = job.ours, job.script
    name = ours.track_pairs_dataset or script.dataset_name or job.mixture.datasets[0].path
    return _kind(name)(job)


def _kind(name: str | None) -> type[Task]:
    family = f"{name}".partition("/")[0] + "/"
    return TASKS.get(f"{name}") or TASKS.get(family, WordProblems)


def rows_of(job: Job, split: str) -> Dataset:
    """The rows of a split that the job trains on. With GRPO a conversational `prompt`, and
    `solution` or `answer` for the rewards; these for distillation too, which reads the prompts
    alone; with SFT `messages`, or `prompt` and `completion`, or `text`."""
    task = training_task(job)
    return task.for_sft(split) if job.name == "sft" else task.for_grpo(split)
