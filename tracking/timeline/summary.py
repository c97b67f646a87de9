"""What happened to the heads of a run, in one sentence and the figures behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from tracking.timeline.regime import Regime
from tracking.timeline.timeline import Timeline

FALSE = 0.064  # how often one draw exceeds the interpolated 97.5 % of 20 others of its contrast


@dataclass(frozen=True)
class Summary:
    """A run's last checkpoint against its first, on the prompt pairs of one contrast.

    `beyond_noise`: whether another sample of pairs would say the same: resamples of the pairs
    leave at least one emergent head at the last checkpoint (the lower end of the 95 % interval of
    their number), and turnover was above the 97.5 % of its null at more checkpoints than chance
    makes of that many. None where there is one checkpoint, or no interval.
    """

    contrast: str
    step: int  # the last analysed
    survivors: Sequence[str]  # emergent heads that are active at the last checkpoint
    emerged: int  # heads that ever were emergent
    low: float  # 95 % interval of the number of survivors; NaN where it has none
    high: float
    base: int  # base heads
    retained: int  # of them, active at the last checkpoint
    turned: int  # checkpoints whose turnover is above its null
    compared: int  # checkpoints that have a turnover
    sound: int  # checkpoints whose verdict is sound
    checkpoints: int
    faithfulness: float  # of the last circuit
    verdict: str  # of the last record
    regime: Regime

    @classmethod
    def of(cls, timeline: Timeline, contrast: str) -> Summary:
        """Of all checkpoints so far; `BadInput` for an unknown contrast."""
        heads, counts = timeline.of_contrast(contrast)
        last = counts.iloc[-1]
        now = heads[(heads["step"] == last["step"]) & heads["active"] & heads["cohort"].notna()]
        later = counts.dropna(subset=["turnover"])
        regime = Regime.of(heads, counts, contrast)
        return cls(
            contrast=contrast,
            step=int(last["step"]),
            survivors=tuple(now["head"]),
            emerged=regime.emerged,
            low=float(last["emergent_low"]),
            high=float(last["emergent_high"]),
            base=int(counts["active"].iloc[0]),
            retained=int(last["active"]) - len(now),
            turned=int((later["turnover"] > later["null_high"]).sum()),
            compared=len(later),
            sound=int((counts["verdict"] == "sound").sum()),
            checkpoints=len(counts),
            faithfulness=float(last["faithfulness"]),
            verdict=str(last["verdict"]),
            regime=regime,
        )

    @property
    def beyond_noise(self) -> bool | None:
        """Whether what emerged is more than another sample of pairs would make of nothing."""
        if not self.compared or np.isnan(self.low):
            return None
        chance = stats.binom.ppf(0.975, self.compared, FALSE)
        return bool(self.low >= 1 and self.turned > chance)

    @property
    def noise(self) -> str:
        """`beyond_noise` in words."""
        words = {
            True: "beyond the noise of sampling pairs",
            False: "not beyond the noise of sampling pairs",
            None: "how far that is noise is not known",
        }
        return words[self.beyond_noise]

    @property
    def sentence(self) -> str:
        """What happened, in one sentence."""
        if self.checkpoints == 1:
            return (
                f"On {self.contrast!r} pairs one checkpoint has been analysed (step {self.step}, "
                f"{self._faithful}): nothing can be said yet of heads over time."
            )
        if not self.emerged:
            what = f"no head emerged in {self.checkpoints} checkpoints"
        else:
            interval = "" if np.isnan(self.low) else f" (95 %: {_range(self.low, self.high)})"
            what = (
                f"{len(self.survivors)} of {self.emerged} heads that emerged are there at step "
                f"{self.step}{interval}, {self.noise}"
            )
        if self.base:
            what += f"; {self.retained} of {self.base} base heads are retained"
        return (
            f"On {self.contrast!r} pairs {what}; turnover was above its null at {self.turned} of "
            f"{self.compared} checkpoints; the last circuit is {self._faithful}, and "
            f"{self.sound} of {self.checkpoints} circuits are sound."
        )

    @property
    def _faithful(self) -> str:
        if self.verdict == "absent":
            return "absent (clean and corrupted prompts hardly differ)"
        return f"{self.verdict} (faithfulness {self.faithfulness:.2f})"


def _range(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
