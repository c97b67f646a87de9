"""The problems that a job trains on, whatever their columns are called.

GRPO wants a conversational `prompt` and what its rewards read (`solution`, `answer`); SFT wants
`messages`. Data sets that have these columns are used as they are; GSM8K, MATH, OpenR1-Math, AMC,
AIME and SVAMP are read by the columns that they have.
"""

from __future__ import annotations

import re
from typing import Any

from datasets import Dataset

from tracking.errors import BadInput
from tracking.pairs.problems import WordProblem, read_problem
from train.config import Job
from train.data.rows import training_rows
from train.tiny import task as tiny

TINY_ROWS = 4096
ANNOTATION = re.compile(r"<<[^>]*>>")


def for_grpo(job: Job, split: str) -> Dataset:
    """Rows with a conversational `prompt`, and `solution` or `answer` for the rewards."""
    if job.script.dataset_name == "tiny":
        return tiny.dataset(_tiny(split), job.ours.dataset_size or TINY_ROWS, job.training.seed)
    data = training_rows(job, split)
    if "prompt" in data.column_names:
        return data
    return data.map(
        lambda row: _grpo_row(read_problem(row), job.ours.system_prompt),
        remove_columns=data.column_names,
        desc="problems",
    )


def for_sft(job: Job, split: str) -> Dataset:
    """Rows with `messages`, or with `prompt` and `completion`, or `text`."""
    if job.script.dataset_name == "tiny":
        return tiny.sft_dataset(_tiny(split), job.ours.dataset_size or TINY_ROWS, job.training.seed)
    data = training_rows(job, split)
    columns = set(data.column_names)
    if columns & {"messages", "text"} or {"prompt", "completion"} <= columns:
        return data
    return data.map(
        lambda row: {"messages": worked(read_problem(row), job.ours.system_prompt)},
        remove_columns=data.column_names,
        desc="problems",
    )


def question(problem: str, system_prompt: str | None) -> list[dict[str, str]]:
    """A problem as a conversation that awaits the assistant."""
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    return [*system, {"role": "user", "content": problem}]


def worked(problem: WordProblem, system_prompt: str | None) -> list[dict[str, str]]:
    """A problem with its worked solution as a conversation; `BadInput` where it has none."""
    if problem.solution is None:
        raise BadInput("SFT needs worked solutions; this data set has only answers")
    solution = ANNOTATION.sub("", problem.solution)
    turn = {"role": "assistant", "content": solution}
    return [*question(problem.question, system_prompt), turn]


def _grpo_row(problem: WordProblem, system_prompt: str | None) -> dict[str, Any]:
    # math-verify finds a gold answer surest where it is boxed.
    return {
        "prompt": question(problem.question, system_prompt),
        "solution": rf"\boxed{{{problem.answer}}}",
        "answer": problem.answer,
    }


def _tiny(split: str) -> Any:
    if split not in ("train", "test"):
        raise BadInput(f"the tiny data set has the splits train and test, not {split!r}")
    return split
