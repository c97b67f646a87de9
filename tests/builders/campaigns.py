"""Kinds of training that tests kill and resume."""

from scripts.campaign import variants
from scripts.campaign.faults import FAULTS
from scripts.campaign.variants import Variant

FAST = {**variants.FAST, "max_steps": 6, "save_steps": 2, "track_contrasts": "cue"}


CLOSE = {"reward_funcs": "tests.builders.digits.digits", "max_completion_length": 12}


SFT, GRPO = Variant("sft", "sft"), Variant("grpo", "grpo", CLOSE)


KEPT = Variant("grpo, batch kept 2 steps", "grpo", {**CLOSE, "num_iterations": 2})


AT = {fault.name: fault for fault in FAULTS}
