"""A job's prompt pairs, by the contrasts that its recipe names."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from tracking.errors import BadInput
from tracking.pairs.pairs_file import read_pairs
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.pairs.text import Dropped, Pair, choose, padding
from train.config import Job
from train.tasks.registry import pairs_task


def contrasts(job: Job) -> tuple[str, ...]:
    """The contrasts that the job asks for, none where it asks for all of a `track_pairs_file`;
    `BadInput` names one that its task has not."""
    if job.ours.track_pairs_file and job.ours.track_pairs_dataset:
        raise BadInput("pairs come from track_pairs_file or from track_pairs_dataset; name one")
    wanted = tuple(job.ours.track_contrasts or (() if job.ours.track_pairs_file else ("operand",)))
    known = pairs_task(job).contrasts
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
    """The prompt pairs of every contrast. `model()` is asked for only where pairs take what
    the model itself writes.

    Raises `BadInput` where too few pairs are usable, with what was dropped and why.
    """
    count, minimum = job.ours.track_pairs_count, job.ours.track_pairs_minimum
    tokenizer = _as_trained(job, tokenizer)
    return {
        contrast: PromptPairs.padded(choose(pairs, contrast, count, minimum), padding(tokenizer))
        for contrast, pairs in _pairs(job, tokenizer, model)
    }


def _as_trained(job: Job, tokenizer: Any) -> Any:
    """The tokenizer with the variables of its chat template that the training sets, like Qwen3's
    `enable_thinking`: prompts of pairs are the training's."""
    variables = getattr(job.training, "chat_template_kwargs", None)
    if not variables or not getattr(tokenizer, "chat_template", None):
        return tokenizer
    set_before = "".join(f"{{%- set {k} = {json.dumps(v)} -%}}" for k, v in variables.items())
    tokenizer = copy.copy(tokenizer)
    tokenizer.chat_template = set_before + tokenizer.chat_template
    return tokenizer


def _pairs(
    job: Job, tokenizer: Any, model: Callable[[], Any]
) -> Iterator[tuple[str, Iterable[Pair | Dropped]]]:
    wanted = contrasts(job)
    if job.ours.track_pairs_file:
        yield from _from_file(job.ours.track_pairs_file, wanted, tokenizer)
        return
    task = pairs_task(job)
    yield from ((contrast, task.pairs(contrast, tokenizer, model)) for contrast in wanted)


def _from_file(
    path: str, wanted: Sequence[str], tokenizer: Any
) -> Iterator[tuple[str, Iterable[Pair]]]:
    by_contrast = read_pairs(path, tokenizer)
    for contrast in wanted or by_contrast:
        if contrast not in by_contrast:
            has = ", ".join(by_contrast)
            raise BadInput(f"no contrast {contrast!r} in {path}; track_contrasts: {has}")
        yield contrast, by_contrast[contrast]


def digit_ids(tokenizer: Any) -> Tensor:
    """LongTensor [token]: the tokens that are digits, a space before them or not."""
    texts = ((index, tokenizer.decode([index]).strip()) for index in range(len(tokenizer)))
    return torch.tensor([index for index, text in texts if text.isdecimal()])


def describe(pairs: dict[str, PromptPairs]) -> str:
    """One line: how many prompt pairs of each contrast."""
    return ", ".join(f"{len(of_contrast)} {contrast}" for contrast, of_contrast in pairs.items())
