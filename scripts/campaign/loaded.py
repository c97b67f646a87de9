"""What a job's process has loaded when it is forked; imported once, by the process that forks."""

from importlib import import_module

from train.cli import imported_for_good

with imported_for_good():
    for name in (
        "train.prepare",
        "train.rewards.registry",
        "trl.trainer.grpo_trainer",
        "trl.trainer.sft_trainer",
    ):
        import_module(name)
