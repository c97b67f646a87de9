"""GRPO with its heads tracked.

    sparks grpo --config recipes/tiny/grpo.yaml [--any_trl_flag value ...]

TRL's trainer does the training; what is here checks the input, names the rewards and puts the
tracker on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from train import config

if TYPE_CHECKING:
    from trl import GRPOTrainer

    from train.prepare import Prepared
    from train.rewards.scoring import Scorer


def main(arguments: Sequence[str]) -> None:
    """Run the job that the command line means."""
    job = config.load("grpo", arguments)
    # What takes seconds to load: a mistake in the recipe is told before.
    from train.prepare import finish, prepare
    from train.rewards import registry as rewards

    names, length = job.script.reward_funcs or [], job.training.max_completion_length
    rewards.resolve(names, length)  # a mistake is told before anything is loaded
    prepared = prepare(job)
    if prepared is None:
        return
    scorers: list[Scorer] = []
    with prepared.lock:
        try:
            scorers += rewards.guarded(names, length, job.ours.reward_timeout)
            finish(prepared, _trainer(prepared, scorers))
        finally:
            for scorer in scorers:
                scorer.close()


def _trainer(prepared: Prepared, scorers: Sequence[Scorer]) -> GRPOTrainer:
    from trl import GRPOTrainer, get_peft_config, get_quantization_config

    job = prepared.job
    reward_funcs: list[Any] = [*scorers]
    if job.script.reward_model_name_or_path:
        reward_funcs.append(job.script.reward_model_name_or_path)
    return GRPOTrainer(
        model=prepared.start.path,
        reward_funcs=reward_funcs,
        args=job.training,
        train_dataset=prepared.train,
        eval_dataset=prepared.evaluation,
        processing_class=prepared.start.tokenizer,
        quantization_config=get_quantization_config(job.model),
        peft_config=get_peft_config(job.model),
    )
