"""What a head does, in a word, from the scores of where it attends."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from torch import Tensor

THRESHOLDS = {
    "induction": 0.4,
    "copying": 0.2,
    "previous_token": 0.4,
    "duplicate_token": 0.4,
    "first_token": 0.6,
    "digits": 0.8,
}
"""From which score on a head has a role. They are ours, set by what even attention can reach: it
gives the first token and the digits of a short prompt much, one certain token little. `entropy` and
`kurtosis` say how attention is spread, not on what, so they name no role."""


SCORES = (
    "induction", "copying", "previous_token", "duplicate_token", "first_token", "digits",
    "entropy", "kurtosis",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Roles:
    """What every head does; scores float32 [head] in the order of `heads`, as defined by the
    functions of the same names. NaN where the pairs cannot tell."""

    heads: tuple[str, ...]  # as in `Graph.head_names`
    induction: Tensor
    copying: Tensor
    previous_token: Tensor
    duplicate_token: Tensor
    first_token: Tensor
    digits: Tensor
    entropy: Tensor
    kurtosis: Tensor

    @classmethod
    def of(cls, heads: tuple[str, ...], scores: Tensor) -> Roles:
        """From scores [role, head] in the order of `SCORES`."""
        return cls(heads, **dict(zip(SCORES, scores, strict=True)))

    @property
    def scores(self) -> dict[str, Tensor]:
        """All scores by name."""
        return {name: value for name, value in vars(self).items() if name != "heads"}

    @property
    def main(self) -> list[str]:
        """One word a head: the role whose score is furthest from its threshold towards 1, the
        first in `THRESHOLDS` of equals; '-' where no score reaches its threshold."""
        by_role = {name: getattr(self, name).tolist() for name in THRESHOLDS}
        heads = range(len(self.heads))
        return [_main({name: scores[head] for name, scores in by_role.items()}) for head in heads]

    def frame(self) -> pd.DataFrame:
        """One row a head: `head`, every score, `main`."""
        columns = {name: score.numpy() for name, score in self.scores.items()}
        return pd.DataFrame({"head": list(self.heads), **columns, "main": self.main})


def _main(scores: dict[str, float]) -> str:
    """The word of one head, from its score in each role that has a threshold."""
    reached = {name: score for name, score in scores.items() if score >= THRESHOLDS[name]}
    if not reached:
        return "-"
    name = max(reached, key=lambda n: (reached[n] - THRESHOLDS[n]) / (1 - THRESHOLDS[n]))
    return name.replace("_", " ")
