"""The model that a job starts from: one that Sparks names, a folder, or the Hub's."""

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
from tracking.model.architecture import ARCHITECTURES
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
        named = MODELS[name]
        if named.one_thread:
            torch.set_num_threads(1)
        folder = name if job.ours.dry_run else str(named.folder(job.training.seed))
        return Start(folder, named.tokenizer())
    if name.startswith(("/", ".", "~")) and not Path(name).is_dir():
        raise BadInput(f"model {name!r}: no such folder")
    options = {
        "revision": job.model.model_revision,
        "trust_remote_code": bool(getattr(job.training, "trust_remote_code", False)),
    }
    try:
        config = AutoConfig.from_pretrained(name, **options)
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
    except (OSError, ValueError, KeyError, HFValidationError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadInput(f"model {name!r} cannot be loaded: {first}") from None
    if job.ours.track and config.model_type not in ARCHITECTURES:
        raise BadInput(
            f"cannot track a {config.model_type!r} model ({name}); supported: "
            f"{', '.join(ARCHITECTURES)}; or train without tracking: --track false"
        )
    return Start(name, tokenizer)


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
    return {
        "revision": job.model.model_revision,
        "attn_implementation": job.model.attn_implementation,
        "dtype": job.model.dtype,
        **(job.training.model_init_kwargs or {}),
    }
