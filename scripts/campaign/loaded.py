"""What a job's process has loaded when it is forked; imported once, by the process that forks.

Nothing of it is ever garbage, and no collection goes through it, here or in the jobs.
"""

import gc
from importlib import import_module

gc.disable()
for name in (
    "train.prepare",
    "train.rewards.registry",
    "trl.trainer.grpo_trainer",
    "trl.trainer.sft_trainer",
):
    import_module(name)
gc.freeze()
gc.enable()
