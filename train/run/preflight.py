"""What can be checked of a job before its weights are loaded, and what it is going to do."""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import Any

import torch
from datasets import Dataset

from tracking.errors import BadInput
from tracking.pairs.prompt_pairs import PromptPairs
from train.config import Job
from train.data import contrasts
from train.run.console import say

FEW = 16  # pairs below which a bootstrap says little


def check_machine(job: Job) -> None:
    """Whether what the settings need is here; a dry run may be on a machine without the GPU."""
    if (job.model.load_in_4bit or job.model.load_in_8bit) and find_spec("bitsandbytes") is None:
        bits = "4" if job.model.load_in_4bit else "8"
        raise BadInput(
            f"load_in_{bits}bit needs bitsandbytes, which is not installed; install it, or train "
            "without"
        )
    args = job.training
    if getattr(args, "use_vllm", False) and not job.ours.dry_run and find_spec("vllm") is None:
        raise BadInput(
            "use_vllm: vLLM is not installed; pip install -e '.[vllm]' (needs CUDA), or train "
            "without: --use_vllm false"
        )
    chosen = bool(job.resolved["use_cpu"])
    if not chosen and torch.accelerator.is_available():
        return
    if args.fp16 and (chosen or not job.ours.dry_run):
        raise BadInput("fp16 needs a GPU; on a CPU train without: --fp16 false --bf16 false")
    if (args.fp16 or args.bf16) and not chosen:
        kind = "fp16" if args.fp16 else "bf16"
        say(f"precision  {kind} needs a GPU and this machine has none: the run has to go elsewhere")


def check_rows(job: Job, tokenizer: Any, train: Dataset) -> None:
    """Whether a job can train on these rows, and be resumed from where it saves."""
    if _speaks_messages(train) and not _has_template(job, tokenizer):
        raise BadInput(
            f"{job.model.model_name_or_path}: its tokenizer has no chat template, which the "
            "conversations of the data need; take a model with one (-Instruct), or text without "
            "turns"
        )
    if job.name == "sft":
        return
    if len(train) < (prompts := _prompts(job)):
        fewer = ", or raise num_generations" if job.name == "grpo" else ""
        raise BadInput(
            f"{len(train)} rows of training data are fewer than the {prompts} prompts of a batch "
            f"of generations; lower per_device_train_batch_size{fewer}"
        )
    every, saved = job.generation_steps, save_every(job, len(train))
    if saved is not None and saved % every:
        named = f"save_strategy is {_name(job.training.save_strategy)}: every {saved} steps"
        raise BadInput(
            f"{named}, but a batch of generations lasts {every} steps; a resumed run would not "
            f"repeat it. Use save_strategy steps and save_steps a multiple of {every}"
        )


def steps_per_epoch(job: Job, rows: int) -> int | None:
    """The training steps of an epoch; None where packing decides them."""
    args = job.training
    if job.name == "grpo":
        batches = rows // _prompts(job) * args.num_iterations * args.steps_per_generation
    elif job.name == "distill":
        batches = rows // _prompts(job) * args.gradient_accumulation_steps
    elif args.packing:
        return None
    else:
        batches = math.ceil(rows / (args.per_device_train_batch_size * args.world_size))
    return max(math.ceil(batches / args.gradient_accumulation_steps), 1)


def total_steps(job: Job, rows: int) -> int | None:
    """The steps of the whole training; None where packing decides them."""
    args = job.training
    if args.max_steps > 0:
        return args.max_steps
    epoch = steps_per_epoch(job, rows)
    return None if epoch is None else math.ceil(epoch * args.num_train_epochs)


def save_every(job: Job, rows: int) -> int | None:
    """After how many steps each a checkpoint is saved; None where none is, or nobody can say."""
    args, strategy = job.training, _name(job.training.save_strategy)
    if strategy == "epoch":
        return steps_per_epoch(job, rows)
    if strategy != "steps":
        return None
    if args.save_steps >= 1:
        return int(args.save_steps)
    total = total_steps(job, rows)  # below 1 it is a share of all steps
    return None if total is None else math.ceil(total * args.save_steps)


def describe_tracking(job: Job, rows: int) -> str:
    """At which steps the heads will be analysed."""
    every, total, strategy = save_every(job, rows), total_steps(job, rows), job.training
    strategy = _name(job.training.save_strategy)
    if strategy == "no":
        return "step 0 only, and nothing that training does: save_strategy is no"
    if every is None:
        return f"at checkpoints only (save_strategy {strategy}), and step 0"
    if total is not None and every > total:
        return f"step 0 and the end, {total}, only: the first checkpoint would be at {every}"
    return f"every {every} steps"


def describe_evaluation(job: Job, evaluation: Dataset | None) -> str:
    """Which rows the run is evaluated on, and when."""
    if evaluation is None:
        return "none: eval_strategy is no"
    args, strategy = job.training, _name(job.training.eval_strategy)
    when = f"every {args.eval_steps:g} steps" if strategy == "steps" else f"every {strategy}"
    return f"{len(evaluation)} rows of split {job.script.dataset_test_split}, {when}"


def describe_pairs(job: Job, pairs: dict[str, PromptPairs]) -> None:
    """Say how many prompt pairs there are, and what too few of them mean."""
    wanted = job.ours.track_pairs_count
    fewer = any(len(of_contrast) < wanted for of_contrast in pairs.values())
    say(f"pairs      {contrasts.describe(pairs)}" + (f" ({wanted} wanted)" if fewer else ""))
    few = [contrast for contrast, of_contrast in pairs.items() if len(of_contrast) < FEW]
    if few:
        say(
            f"few pairs  {', '.join(few)}: with fewer than {FEW} pairs intervals are wide and "
            "halves disagree, so that records will be marked weak"
        )


def _prompts(job: Job) -> int:
    """Of a batch of generations; what does not fill one is left out of an epoch."""
    args = job.training
    if job.name == "grpo":
        return args.generation_batch_size // args.num_generations
    return args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size


def _speaks_messages(rows: Dataset) -> bool:
    columns = set(rows.column_names)
    return "messages" in columns or ("prompt" in columns and isinstance(rows[0]["prompt"], list))


def _has_template(job: Job, tokenizer: Any) -> bool:
    given = getattr(job.training, "chat_template_path", None)
    return bool(given or getattr(tokenizer, "chat_template", None))


def _name(strategy: Any) -> str:
    return str(getattr(strategy, "value", strategy))
