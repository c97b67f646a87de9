"""The models of a job, each one that Sparks names, a folder's, or the Hub's: the one that it starts
from, and its teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HFValidationError
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from tracking.errors import BadInput
from tracking.model.architecture import architecture_of
from tracking.model.sharded import outside_sharding
from train.config import Job
from train.tasks.registry import MODELS


@dataclass(frozen=True)
class Start:
    """Where a model's weights are, and the tokenizer that goes with them."""

    path: str
    tokenizer: Any


def start(job: Job) -> Start:
    """Find the job's model and load its tokenizer, but no weights.

    The tiny world's is made on first use (except in a dry run). Raises `BadInput` where there is
    no such model or, if the run is tracked, its architecture is not supported.
    """
    name = job.model.model_name_or_path or ""
    if name in MODELS:
        return _named(job, name)
    config, tokenizer = _described(job, "model", name, job.model.model_revision)
    if job.ours.track:
        try:
            architecture_of(config.model_type, name)
        except BadInput as refusal:
            raise BadInput(f"{refusal}; or train without tracking: --track false") from None
    return Start(name, tokenizer)


def teacher(job: Job, student: Start) -> Start:
    """Find the model that a distillation learns from, as `start` does the student.

    Raises `BadInput` where there is none, or where a token of the student's is not the same one of
    the teacher's: the loss compares their probabilities id by id.
    """
    name, revision = job.training.teacher_model_name_or_path, job.training.teacher_model_revision
    if name in MODELS:
        start = _named(job, name)
    else:
        start = Start(name, _described(job, "teacher", name, revision)[1])
    instead = "take one of the student's family, or train on text that it wrote: sparks sft"
    token_ids = start.tokenizer.get_vocab()
    for token, number in sorted(student.tokenizer.get_vocab().items(), key=lambda item: item[1]):
        if token_ids.get(token) != number:
            raise BadInput(
                f"teacher {name!r} has another vocabulary: the student's token {number}, "
                f"{token!r}, is {token_ids.get(token, 'none')} there; {instead}"
            )
    here = configuration(student, job.model.model_revision).get_text_config().vocab_size
    there = configuration(start, revision).get_text_config().vocab_size
    if here != there:
        raise BadInput(f"teacher {name!r} has {there} logits, the student {here}; {instead}")
    return start


def configuration(start: Start, revision: str | None) -> Any:
    """The configuration of a model; one that Sparks names need not be there."""
    if start.path in MODELS:
        return MODELS[start.path].config()
    return AutoConfig.from_pretrained(start.path, revision=revision)


def _named(job: Job, name: str) -> Start:
    """One that Sparks names; it is made on first use, but not in a dry run."""
    named = MODELS[name]
    if named.one_thread:
        torch.set_num_threads(1)
    folder = name if job.ours.dry_run else str(named.folder(job.training.seed))
    return Start(folder, named.tokenizer())


def _described(job: Job, what: str, name: str, revision: str | None) -> tuple[Any, Any]:
    """Configuration and tokenizer of a folder's model, or the Hub's."""
    if name.startswith(("/", ".", "~")) and not Path(name).is_dir():
        raise BadInput(f"{what} {name!r}: no such folder")
    trusted = bool(getattr(job.training, "trust_remote_code", False))
    options = {"revision": revision, "trust_remote_code": trusted}
    try:
        config = AutoConfig.from_pretrained(name, **options)
        return config, AutoTokenizer.from_pretrained(name, **options)
    except (OSError, ValueError, KeyError, HFValidationError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadInput(f"{what} {name!r} cannot be loaded: {first}") from None


def weights(job: Job, begin: Start) -> Any:
    """The model with all its weights, on the GPU where there is one, or by `device_map`."""
    if loading(job).get("device_map"):
        with outside_sharding():
            return AutoModelForCausalLM.from_pretrained(begin.path, **loading(job))
    return on_cpu(job, begin).to("cuda" if torch.cuda.is_available() else "cpu")


def on_cpu(job: Job, begin: Start) -> Any:
    """The same where it takes no room beside a model on the GPU."""
    with outside_sharding():
        options = {**loading(job), "device_map": None}
        return AutoModelForCausalLM.from_pretrained(begin.path, **options)


def at_steps(
    job: Job,
    begin: Start,
    checkpoints: Mapping[int, Path],
    load: Callable[[Job, Start], Any] = weights,
) -> dict[int, Callable[[], Any]]:
    """What loads the model of each step, by `weights` or `on_cpu`: that of the start as step 0, and
    every checkpoint's."""
    return {
        0: partial(load, job, begin),
        **{step: partial(saved, job, begin, path, load) for step, path in checkpoints.items()},
    }


def saved(
    job: Job, begin: Start, checkpoint: Path, load: Callable[[Job, Start], Any] = weights
) -> Any:
    """The model of a checkpoint of this job, an adapter on what the job starts from."""
    if (checkpoint / "adapter_config.json").exists():
        return PeftModel.from_pretrained(load(job, begin), str(checkpoint))
    return load(job, Start(str(checkpoint), begin.tokenizer))


def loading(job: Job) -> dict[str, Any]:
    """Arguments for loading the weights, as TRL's own scripts give them."""
    more = job.training.model_init_kwargs
    return {"revision": job.model.model_revision, **_as_asked(job), **(more or {})}


def loading_teacher(job: Job) -> dict[str, Any]:
    """The same for the teacher's."""
    more = job.training.teacher_model_init_kwargs
    return {"revision": job.training.teacher_model_revision, **_as_asked(job), **(more or {})}


def _as_asked(job: Job) -> dict[str, Any]:
    return {"attn_implementation": job.model.attn_implementation, "dtype": job.model.dtype}
