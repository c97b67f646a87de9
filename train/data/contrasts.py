"""A job's prompt pairs, by the contrasts that its recipe names."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from tracking.errors import BadInput
from tracking.pairs.pairs_file import read_pairs
from tracking.pairs.problems import chat_prompt, read_problem
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.pairs.solutions import greedy_solutions
from tracking.pairs.text import Dropped, Pair, choose, padding, pair_at_first_difference
from tracking.pairs.word_pairs import WORD_CONTRASTS, word_pairs
from train.config import Job
from train.data.rows import rows
from train.tiny import task as tiny
from train.tiny.task import Problem

TINY_CONTRASTS = ("cue", "operand")
SPARE = 8  # problems looked at for each pair that is wanted


def contrasts(job: Job) -> tuple[str, ...]:
    """The contrasts that the job asks for, none where it asks for all of a `track_pairs_file`;
    `BadInput` names one that its task has not."""
    if job.ours.track_pairs_file and job.ours.track_pairs_dataset:
        raise BadInput("pairs come from track_pairs_file or from track_pairs_dataset; name one")
    wanted = tuple(job.ours.track_contrasts or (() if job.ours.track_pairs_file else ("operand",)))
    known = TINY_CONTRASTS if _source(job) == "tiny" else WORD_CONTRASTS
    for contrast in () if job.ours.track_pairs_file else wanted:
        if contrast not in known:
            raise BadInput(
                f"no prompt pairs of contrast {contrast!r} here; track_contrasts: "
                f"{', '.join(known)}"
            )
    if job.ours.track_pairs_minimum > job.ours.track_pairs_count:
        raise BadInput(
            f"track_pairs_minimum is {job.ours.track_pairs_minimum}, more than the "
            f"{job.ours.track_pairs_count} of track_pairs_count"
        )
    return wanted


def build(job: Job, tokenizer: Any, model: Callable[[], Any]) -> dict[str, PromptPairs]:
    """The prompt pairs of every contrast. `model()` is asked for only where the data has no
    worked solutions and the model's own greedy ones take their place.

    Raises `BadInput` where too few pairs are usable, with what was dropped and why.
    """
    count, minimum = job.ours.track_pairs_count, job.ours.track_pairs_minimum
    return {
        contrast: PromptPairs.padded(choose(pairs, contrast, count, minimum), padding(tokenizer))
        for contrast, pairs in _pairs(job, tokenizer, model)
    }


def without_model(job: Job, tokenizer: Any) -> dict[str, PromptPairs] | None:
    """As `build`, for a dry run; None where the pairs would need the model's own solutions."""

    def absent() -> Any:
        raise _NeedsModel

    try:
        return build(job, tokenizer, absent)
    except _NeedsModel:
        return None


class _NeedsModel(Exception):
    """The model is asked for where none is at hand."""


def _pairs(
    job: Job, tokenizer: Any, model: Callable[[], Any]
) -> Iterator[tuple[str, Iterable[Pair | Dropped]]]:
    wanted, count = contrasts(job), job.ours.track_pairs_count
    if job.ours.track_pairs_file:
        yield from _from_file(job.ours.track_pairs_file, wanted, tokenizer)
        return
    if _source(job) == "tiny":
        problems = tiny.problems("test", SPARE * count, job.training.seed, cue_matters=True)
        yield from ((contrast, tiny_pairs(contrast, problems, tokenizer)) for contrast in wanted)
        return
    if job.ours.track_pairs_dataset:
        place = job.ours.track_pairs_split, job.ours.track_pairs_config
    else:
        place = job.script.dataset_train_split, job.script.dataset_config
    data = rows(_source(job), *place)
    words = [read_problem(row) for row in data.take(min(len(data), SPARE * count)).to_list()]
    system = job.ours.system_prompt
    solutions = None
    if set(wanted) - {"answer"} and not any(problem.solution for problem in words):
        prompts = [chat_prompt(tokenizer, problem.question, system) for problem in words]
        length = job.ours.track_pairs_solution_tokens
        solutions = greedy_solutions(model(), tokenizer, prompts, length, batch_size=8)
    for contrast in wanted:
        yield contrast, word_pairs(contrast, words, tokenizer, job.training.seed, system, solutions)


def _from_file(
    path: str, wanted: Sequence[str], tokenizer: Any
) -> Iterator[tuple[str, Iterable[Pair]]]:
    by_contrast = read_pairs(path, tokenizer)
    for contrast in wanted or by_contrast:
        if contrast not in by_contrast:
            has = ", ".join(by_contrast)
            raise BadInput(f"no contrast {contrast!r} in {path}; track_contrasts: {has}")
        yield contrast, by_contrast[contrast]


def tiny_pairs(
    contrast: str, problems: Iterable[Problem], tokenizer: Any
) -> Iterator[Pair | Dropped]:
    """Pairs of the tiny task: `cue`, the same expression under the other cue; `operand`, the same
    cue with one operand changed. No problem is used twice."""
    for problem in dict.fromkeys(problems):
        other = problem.other if contrast == "cue" else _other_operand(problem)
        sides = ((chat_prompt(tokenizer, side.prompt), side.solution) for side in (problem, other))
        yield pair_at_first_difference(tokenizer, *sides)


def _other_operand(problem: Problem) -> Problem:
    """The problem with one operand changed; which and to what is drawn from the problem itself."""
    draw = random.Random(problem.prompt)
    place = draw.randrange(0, len(problem.expression), 2)
    digits = string.digits.replace(problem.expression[place], "")
    changed = problem.expression[:place] + draw.choice(digits) + problem.expression[place + 1 :]
    return Problem(changed, problem.cue)


def digit_ids(tokenizer: Any) -> Tensor:
    """LongTensor [token]: the tokens that are digits, a space before them or not."""
    texts = ((index, tokenizer.decode([index]).strip()) for index in range(len(tokenizer)))
    return torch.tensor([index for index, text in texts if text.isdecimal()])


def describe(pairs: dict[str, PromptPairs]) -> str:
    """One line: how many prompt pairs of each contrast."""
    return ", ".join(f"{len(of_contrast)} {contrast}" for contrast, of_contrast in pairs.items())


def _source(job: Job) -> str:
    return job.ours.track_pairs_dataset or job.script.dataset_name or job.mixture.datasets[0].path
