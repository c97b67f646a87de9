"""The problems that a job trains on, whatever their columns are called.

GRPO wants a conversational `prompt` and what its rewards read (`solution`, `answer`); SFT wants
`messages`. Data sets that have these columns are used as they are; GSM8K, MATH, OpenR1-Math, AMC,
AIME and SVAMP are read by the columns that they have.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from trl import get_dataset

from tracking.errors import BadInput
from tracking.word_problems import WordProblem, read_problem
from train import tiny
from train.config import Job

BUILDERS = {
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".parquet": "parquet",
}
TINY_ROWS = 4096
ANNOTATION = re.compile(r"<<[^>]*>>")


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
            found = load_dataset(BUILDERS[path.suffix], data_files=name, split="train")
        else:
            found = load_dataset(name, config, split=split)
    except DatasetGenerationError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise BadInput(f"data set {name!r} cannot be read: {reason}") from None
    except (DatasetNotFoundError, OSError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"data set {name!r}: {str(error).strip().splitlines()[0]}") from None
    if len(found) == 0:
        raise BadInput(f"data set {name!r} is empty")
    return found


def training_rows(job: Job, split: str) -> Dataset:
    """The job's rows of a split as they lie, at most `dataset_size` of them."""
    if job.mixture.datasets:
        found = get_dataset(job.mixture)
        if split not in found:
            raise BadInput(f"the data set mixture has no split {split!r}; see test_split_size")
        data = found[split]
    else:
        data = rows(job.script.dataset_name, split, job.script.dataset_config)
    size = job.ours.dataset_size
    return data.select(range(min(size, len(data)))) if size else data


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
