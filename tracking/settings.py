"""How a checkpoint is analysed; a recipe sets these as `track_<name>`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from tracking.circuits.top_edges import Selection
from tracking.errors import BadInput
from tracking.model.ends import MEMORY_GB


@dataclass
class Settings:
    """Settings of the analysis. All are kept in every record."""

    select: str = field(
        default="faithfulness=0.8",
        metadata={
            "help": "Size of a run's circuits, settled at the first checkpoint with the behaviour: "
            "faithfulness=0.8 (twice the fewest edges that reach it), share=0.9 (of the sum of "
            "|score|) or edges=5000."
        },
    )
    rank: str = field(
        default="signed",
        metadata={"help": "Edges are ranked by |signed mean| (signed) or mean |score| (absolute)."},
    )
    screen: float = field(
        default=1 / 3,
        metadata={
            "help": "Of models with more than 64 heads and MLPs, those are measured whose share by "
            "their scores is at least this part of the threshold, and 16 others."
        },
    )
    quadrature: str = field(
        default="adaptive",
        metadata={"help": "Where steps lie: adaptive, left, right, midpoint, gauss-legendre."},
    )
    ig_steps: int = field(
        default=6, metadata={"help": "Integration steps; adaptive may take more."}
    )
    max_ig_steps: int = field(
        default=64, metadata={"help": "At most so many steps for a pair, when adaptive."}
    )
    batch_size: int = field(
        default=64, metadata={"help": "At most so many pairs per forward and backward pass."}
    )
    memory_gb: float = field(
        default=MEMORY_GB,
        metadata={"help": "Memory of the analysis; batches are cut to it."},
    )
    resamples: int = field(default=200, metadata={"help": "Bootstrap resamples of the pairs."})
    budget: float = field(
        default=1.0,
        metadata={
            "help": "Share of a job's time that tracking may take: past it analyses are left "
            "out, for sparks track to make."
        },
    )
    on_error: str = field(
        default="warn",
        metadata={"help": "When an analysis fails: warn (log, mark, train on) or raise."},
    )

    def __post_init__(self) -> None:
        for item in fields(self):
            value, wanted = getattr(self, item.name), type(item.default)
            if not isinstance(value, (int, float) if wanted is float else wanted):
                raise BadInput(f"track_{item.name} is {value!r}; it must be {wanted.__name__}")
        if self.on_error not in ("warn", "raise"):
            raise BadInput(f"track_on_error is {self.on_error!r}; it must be warn or raise")
        Selection.parse(self.select)
        if self.rank not in ("signed", "absolute"):
            raise BadInput(f"track_rank is {self.rank!r}; it must be signed or absolute")
        if not 0 < self.budget <= 1:
            raise BadInput(f"track_budget is {self.budget}; it must be in (0, 1]")
        if not 0 <= self.screen <= 1:
            raise BadInput(f"track_screen is {self.screen}; it must be in [0, 1]")
        if not self.memory_gb > 0:
            raise BadInput(f"track_memory_gb is {self.memory_gb}; it must be above 0")
        for name in ("ig_steps", "max_ig_steps", "batch_size", "resamples"):
            if getattr(self, name) < 1:
                raise BadInput(f"track_{name} is {getattr(self, name)}; it must be at least 1")
