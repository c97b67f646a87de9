"""A job's probes: from the tiny task or from word problems, by the kinds that its recipe names."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from tracking.errors import BadInput
from tracking.pairs.problems import chat_prompt, read_problem
from tracking.pairs.prompt_pairs import ProbeSet
from tracking.pairs.solutions import greedy_solutions
from tracking.pairs.text import Dropped, Pair, choose, pair_at_first_difference
from tracking.pairs.word_pairs import WORD_KINDS, word_pairs
from train.config import Job
from train.data.rows import rows
from train.tiny import task as tiny
from train.tiny.task import Problem

TINY_KINDS = ("cue", "operand")
SPARE = 8  # problems looked at for each probe that is wanted


def kinds(job: Job) -> tuple[str, ...]:
    """The kinds of probes that the job asks for; `BadInput` names one that its task has not."""
    known = TINY_KINDS if _source(job) == "tiny" else WORD_KINDS
    for kind in job.ours.track_probes:
        if kind not in known:
            raise BadInput(f"no probes of kind {kind!r} here; track_probes: {', '.join(known)}")
    if job.ours.track_probe_minimum > job.ours.track_probe_count:
        raise BadInput(
            f"track_probe_minimum is {job.ours.track_probe_minimum}, more than the "
            f"{job.ours.track_probe_count} of track_probe_count"
        )
    return tuple(job.ours.track_probes)


def build(job: Job, tokenizer: Any, model: Callable[[], Any]) -> dict[str, ProbeSet]:
    """The probes of every kind. `model()` is asked for only where the data has no worked solutions
    and the model's own greedy ones take their place.

    Raises `BadInput` where too few pairs are usable, with what was dropped and why.
    """
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return {
        kind: ProbeSet.from_pairs(
            choose(pairs, kind, job.ours.track_probe_count, job.ours.track_probe_minimum), pad
        )
        for kind, pairs in _pairs(job, tokenizer, model)
    }


def _pairs(
    job: Job, tokenizer: Any, model: Callable[[], Any]
) -> Iterator[tuple[str, Iterable[Pair | Dropped]]]:
    wanted, count = kinds(job), job.ours.track_probe_count
    if _source(job) == "tiny":
        problems = tiny.problems("test", SPARE * count, job.training.seed, cue_matters=True)
        yield from ((kind, tiny_pairs(kind, problems, tokenizer)) for kind in wanted)
        return
    if job.ours.track_probe_dataset:
        place = job.ours.track_probe_split, job.ours.track_probe_config
    else:
        place = job.script.dataset_train_split, job.script.dataset_config
    data = rows(_source(job), *place)
    words = [read_problem(row) for row in data.take(min(len(data), SPARE * count)).to_list()]
    system = job.ours.system_prompt
    solutions = None
    if set(wanted) - {"answer"} and not any(problem.solution for problem in words):
        prompts = [chat_prompt(tokenizer, problem.question, system) for problem in words]
        length = job.ours.track_probe_solution_tokens
        solutions = greedy_solutions(model(), tokenizer, prompts, length, batch_size=8)
    for kind in wanted:
        yield kind, word_pairs(kind, words, tokenizer, job.training.seed, system, solutions)


def tiny_pairs(kind: str, problems: Iterable[Problem], tokenizer: Any) -> Iterator[Pair | Dropped]:
    """Probes of the tiny task: `cue`, the same expression under the other cue; `operand`, the same
    cue with one operand changed. No problem is used twice."""
    for problem in dict.fromkeys(problems):
        other = problem.other if kind == "cue" else _other_operand(problem)
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


def describe(probes: dict[str, ProbeSet]) -> str:
    """One line: how many probes of each kind."""
    return ", ".join(f"{len(of_kind)} {kind}" for kind, of_kind in probes.items())


def _source(job: Job) -> str:
    return job.ours.track_probe_dataset or job.script.dataset_name or job.mixture.datasets[0].path
