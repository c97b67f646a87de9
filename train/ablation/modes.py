"""What is done to the nodes of a set: a mode with its factor, by a word."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tracking.errors import BadInput

OFF = ("zero", "mean", "resample")


@dataclass(frozen=True)
class Mode:
    """One of `intervene`'s modes, or `graft`, and the factor that nodes keep of their own."""

    name: str  # as it was asked for: `zero`, `mean`, `resample`, `scale:0.5`
    kind: str
    factor: float

    @classmethod
    def parse(cls, word: str) -> Mode:
        """`zero`, `mean` and `resample` switch off; `scale:X` multiplies by X. Raises `BadInput`
        for anything else, and for a factor that is not finite, or 1."""
        if word in OFF:
            return cls(word, word, 0.0)
        kind, _, number = word.partition(":")
        if kind != "scale":
            raise BadInput(f"no mode {word!r}; there are {', '.join(OFF)} and scale:X")
        try:
            factor = float(number)
        except ValueError:
            factor = math.nan
        if not math.isfinite(factor) or factor == 1:
            raise BadInput(f"mode {word!r}: the factor must be a finite number other than 1")
        return cls(f"scale:{factor:g}", "scale", factor)


GRAFT = Mode("graft", "graft", 0.0)  # another model's nodes in the place of its own
