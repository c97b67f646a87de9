"""On-policy distillation with the student's heads tracked.

    sparks distill --config recipes/tiny/distill.yaml [--any_trl_flag value ...]

TRL's trainer does the training: the student writes a completion of every prompt, and is drawn to
the probabilities that the teacher gives every next token of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from train import config


def main(arguments: Sequence[str]) -> None:
    """Run the job that the command line means."""
    job = config.load("distill", arguments)
    # What takes seconds to load: a mistake in the recipe is told before.
    from trl import DistillationTrainer, get_peft_config, get_quantization_config

    from train.model import loading_teacher
    from train.prepare import finish, prepare

    prepared = prepare(job)
    if prepared is None:
        return
    assert prepared.teacher is not None
    with prepared.lock:
        job.training.teacher_model_init_kwargs = loading_teacher(job)
        trainer = DistillationTrainer(
            model=prepared.start.path,
            teacher_model=prepared.teacher.path,
            args=job.training,
            train_dataset=prepared.train,
            eval_dataset=prepared.evaluation,
            processing_class=prepared.start.tokenizer,
            quantization_config=get_quantization_config(job.model),
            peft_config=get_peft_config(job.model),
        )
        finish(prepared, trainer)
