"""The texts that two models are compared on: their own completions of the run's problems."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from datasets import Dataset

from tracking.comparison.shift.texts import Text
from tracking.errors import BadInput
from tracking.views.completions import files
from train import config
from train.evals.problems import Problem
from train.evals.sampling import Sampling, check_room, every_sample, prompts_of, respond
from train.tasks.registry import rows_of

OWN = "the run's own"


@dataclass(frozen=True)
class Asked:
    """Problems, and the system prompt that they were asked with."""

    problems: tuple[Problem, ...]
    system_prompt: str | None


def problems_of(run: Path, count: int, seed: int = 0) -> Asked:
    """Up to `count` problems that a run was trained on, drawn by `seed`: those of its completions
    files (`log_completions: true`), or where it has none, as under SFT, of the rows that its
    `config.yaml` names.

    Raises `BadInput` where there are neither, or its prompts are not chats of one question.
    """
    logged = files(run)
    tables = (pd.read_parquet(path, columns=["prompt"]) for path in logged.values())
    prompts = (one for table in tables for one in table["prompt"]) if logged else _trained_on(run)
    return drawn_problems(prompts, run, count, seed)


def _trained_on(run: Path) -> list[Any]:
    try:
        job = config.of_run(run)
        rows = rows_of(job, job.script.dataset_train_split)
    except BadInput as reason:
        raise BadInput(f"it has no completions, and no data to ask again: {reason}") from None
    return asked_in(rows, run)


def asked_in(rows: Dataset, of: object) -> list[Any]:
    """What the model is asked in each of the rows that `of` is trained on; `BadInput` where they
    are text alone."""
    if "prompt" in rows.column_names:
        return rows["prompt"]
    if "messages" in rows.column_names:
        return [messages[:-1] for messages in rows["messages"]]
    raise BadInput(f"{of}: both models are asked its prompts; these rows have only text")


def drawn_problems(prompts: Iterable[Any], of: object, count: int, seed: int = 0) -> Asked:
    """Up to `count` different ones of the `prompts` that `of` has, drawn by `seed`.

    Raises `BadInput` where they are not chats of one question under one system prompt.
    """
    questions = sorted({_chat(prompt, of) for prompt in prompts})
    systems = {system for system, _ in questions}
    if len(systems) > 1:
        raise BadInput(f"{of}: its prompts have {len(systems)} different system prompts")
    drawn = random.Random(seed).sample(questions, min(count, len(questions)))
    problems = tuple(Problem(OWN, question, "") for _, question in drawn)
    return Asked(problems, systems.pop() or None)


def _chat(prompt: Any, of: object) -> tuple[str, str]:
    """System prompt, "" where there is none, and question."""
    turns = [] if isinstance(prompt, str) else [(one["role"], one["content"]) for one in prompt]
    roles = [role for role, _ in turns]
    if roles not in (["user"], ["system", "user"]):
        raise BadInput(f"{of}: its prompts are no chats of one question, but {roles or 'texts'}")
    return ("" if len(turns) == 1 else turns[0][1]), turns[-1][1]


def drawn_texts(
    models: Mapping[str, Any],
    tokenizer: Any,
    problems: Sequence[Problem],
    sampling: Sampling,
    samples: int = 1,
) -> list[Text]:
    """`samples` completions of each problem by each of `models`, by name, with the same noise; one
    that several write stands once.

    Raises `BadInput` where prompts and completions are longer than a model's positions.
    """
    requests = every_sample(problems, samples, sampling)
    prompts = prompts_of(tokenizer, requests, sampling.system_prompt)
    writers: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for name, model in models.items():
        check_room(model.config, tokenizer, requests, sampling)
        for batch in respond(model, tokenizer, requests, sampling):
            for one in batch:
                mine = writers.setdefault((one.request.problem.question, one.tokens), [])
                mine += [] if name in mine else [name]
    return [
        Text(question, " and ".join(by), prompts[question][1], ids)
        for (question, ids), by in sorted(writers.items())
    ]
