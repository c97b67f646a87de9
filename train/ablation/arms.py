"""The arms of a study: under which conditions the same problems are solved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tracking.interventions.matched import MatchedSets
from train.ablation.modes import Mode
from train.ablation.targets import Target
from train.evals.sampling import Request


@dataclass(frozen=True)
class Arm:
    """Nodes under a mode. The condition's name says all of it, so that equal arms of different
    studies share their responses."""

    mode: Mode
    nodes: tuple[str, ...]

    @property
    def condition(self) -> str:
        """As it stands beside every response: `zero L5H1,L7H2`."""
        return f"{self.mode.name} {','.join(self.nodes)}"

    def of(self, requests: Sequence[Request]) -> list[Request]:
        """The same requests under this arm."""
        factors = dict.fromkeys(self.nodes, self.mode.factor)
        return [replace(one, condition=self.condition, factors=factors) for one in requests]


@dataclass(frozen=True)
class Comparison:
    """A set of nodes under a mode, and the random sets that it is held against, by how they are
    matched (`layer`, `norm`); none for sets with MLPs, which have no matched others."""

    target: Target
    mode: Mode
    controls: Mapping[str, MatchedSets]

    @property
    def arm(self) -> Arm:
        return Arm(self.mode, self.target.nodes)

    def control_arms(self, matching: str) -> list[Arm]:
        """One for every control set."""
        return [Arm(self.mode, nodes) for nodes in self.controls[matching].sets]

    @property
    def arms(self) -> list[Arm]:
        """All of them, each once."""
        every = [self.arm, *(arm for name in self.controls for arm in self.control_arms(name))]
        return list(dict.fromkeys(every))
