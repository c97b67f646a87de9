"""Supervised fine-tuning with its heads tracked.

sparks sft --config recipes/tiny/sft.yaml [--any_trl_flag value ...]
"""

from __future__ import annotations

from collections.abc import Sequence

from train import config


def main(arguments: Sequence[str]) -> None:
    """Run the job that the command line means."""
    job = config.load("sft", arguments)
    # What takes seconds to load: a mistake in the recipe is told before.
    from trl import SFTTrainer, get_peft_config, get_quantization_config

    from train.prepare import finish, prepare

    prepared = prepare(job)
    if prepared is None:
        return
    with prepared.lock:
        trainer = SFTTrainer(
            model=prepared.start.path,
            args=job.training,
            train_dataset=prepared.train,
            eval_dataset=prepared.evaluation,
            processing_class=prepared.start.tokenizer,
            quantization_config=get_quantization_config(job.model),
            peft_config=get_peft_config(job.model),
        )
        finish(prepared, trainer)
