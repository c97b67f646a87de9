"""The rows of a data set, from a local file or the Hub, and as the prompts of a trainer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from pyarrow import ArrowException
from trl import get_dataset

from tracking.errors import BadInput
from tracking.pairs.problems import WordProblem, read_problem
from train.config import Job

ANNOTATION = re.compile(r"<<[^>]*>>")  # GSM8K's, of its calculator
BUILDERS = {
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".parquet": "parquet",
}


def rows(name: str, split: str, config: str | None = None) -> Dataset:
    """The rows of a local file or a Hub data set; `BadInput` in one line where there are none."""
    path = Path(name)
    try:
        if path.is_dir():
            raise BadInput(f"data set {name!r} is a folder; name a file in it")
        if path.suffix in BUILDERS:
            if split != "train":
                raise BadInput(f"data set {name!r} is one file, its split is train, not {split!r}")
            if not path.is_file():
                raise BadInput(f"data set {name!r}: no such file")
            if path.stat().st_size == 0:
                raise BadInput(f"data set {name!r} is empty")
            data = load_dataset(BUILDERS[path.suffix], data_files=name, split="train")
        else:
            data = load_dataset(name, config, split=split)
    except DatasetGenerationError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise BadInput(f"data set {name!r} cannot be read: {reason}") from None
    except (DatasetNotFoundError, ArrowException, OSError, OverflowError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"data set {name!r}: {str(error).strip().splitlines()[0]}") from None
    if len(data) == 0:
        raise BadInput(f"data set {name!r} is empty")
    return data


def training_rows(job: Job, split: str) -> Dataset:
    """The job's rows of a split as they lie, at most `dataset_size` of them."""
    if job.mixture.datasets:
        splits = get_dataset(job.mixture)
        if split not in splits:
            raise BadInput(f"the data set mixture has no split {split!r}; see test_split_size")
        data = splits[split]
    else:
        data = rows(job.script.dataset_name, split, job.script.dataset_config)
    size = job.ours.dataset_size
    return data.select(range(min(size, len(data)))) if size else data


def as_prompts(data: Dataset, system_prompt: str | None) -> Dataset:
    """Word problems as rows for GRPO: `prompt`, `solution` (the boxed answer) and `answer`."""
    return data.map(
        lambda row: _prompt(read_problem(row), system_prompt),
        remove_columns=data.column_names,
        desc="problems",
    )


def as_conversations(data: Dataset, system_prompt: str | None) -> Dataset:
    """Word problems as rows for SFT: `messages`; `BadInput` where one has no worked solution."""
    return data.map(
        lambda row: {"messages": _worked(read_problem(row), system_prompt)},
        remove_columns=data.column_names,
        desc="problems",
    )


def question(problem: str, system_prompt: str | None = None) -> list[dict[str, str]]:
    """A problem as a conversation that awaits the assistant."""
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    return [*system, {"role": "user", "content": problem}]


def _worked(problem: WordProblem, system_prompt: str | None) -> list[dict[str, str]]:
    """A problem with its worked solution as a conversation; `BadInput` where it has none."""
    if problem.solution is None:
        raise BadInput("SFT needs worked solutions; this data set has only answers")
    solution = ANNOTATION.sub("", problem.solution)
    turn = {"role": "assistant", "content": solution}
    return [*question(problem.question, system_prompt), turn]


def _prompt(problem: WordProblem, system_prompt: str | None) -> dict[str, Any]:
    # math-verify finds a gold answer surest where it is boxed.
    return {
        "prompt": question(problem.question, system_prompt),
        "solution": rf"\boxed{{{problem.answer}}}",
        "answer": problem.answer,
    }
