"""Kinds of training that tests kill and resume."""

from dataclasses import dataclass

from scripts.campaign import variants
from scripts.campaign.faults import FAULTS, Fault
from scripts.campaign.variants import Variant
from tracking import contrast

FAST = {
    **variants.FAST,
    "max_steps": 6,
    "save_steps": 2,
    "track_contrasts": "cue",
    "track_select": "edges=9",
    "track_ig_steps": 2,
    "track_max_ig_steps": 2,
}


CLOSE = {"reward_funcs": "tests.builders.digits.digits", "max_completion_length": 12}


SFT, GRPO = Variant("sft", "sft"), Variant("grpo", "grpo", CLOSE)


KEPT = Variant("grpo, batch kept 2 steps", "grpo", {**CLOSE, "num_iterations": 2})


AT = {fault.name: fault for fault in FAULTS}


@dataclass(frozen=True)
class ManyNodes:
    """A process that takes its small model for one of many nodes, perhaps with a fault."""

    fault: Fault | None = None
    rank: int = 0

    def plant(self) -> None:
        contrast.ALL_NODES, contrast.SAMPLE = 4, 1
        if self.fault:
            self.fault.plant()
