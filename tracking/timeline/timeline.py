"""The states of heads over the checkpoints of a run: a pure function of its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tracking.errors import BadInput
from tracking.ledger.record import Record
from tracking.run_folder import RunFolder
from tracking.timeline.activity import Thresholds
from tracking.timeline.counts import counts_of
from tracking.timeline.head_table import head_table


@dataclass(frozen=True)
class Timeline:
    """What a run's records say of its heads; `docs/timeline.md` has every column in a line.

    `heads` has one row per contrast, step and head, in that order, with the columns

    - `contrast`, `step`, `head`, `layer`, `state`
    - `active` (carried through uncertainty), `undecided`
    - `verdict` of the step's record: sound, weak, unconverged or absent
    - `membership`, and with half and twice as many edges `membership_half`, `membership_double`
    - `importance` (share of all heads' outgoing |score|), `importance_symmetric` (of what goes in
      and out), `shift` of importance since the checkpoint before, from -1 to 1
    - `effect`, `effect_low`, `effect_high` (mean and 95 % bootstrap over pairs)
    - `growth`: `amplified` or `damped` for a base head whose effect's interval has left that of
      step 0, else empty
    - `cohort`: the first step at which an emergent head was active; missing for others
    - `activations`: share of the checkpoints so far at which it is active
    - `fate`: `survivor` or `transient` for a head that ever emerged in the run, else empty; the
      only column that a later checkpoint can change, and the same at all steps
    - `role`, what the head mostly does, in a word (`Roles.main`), and every score of
      `tracking.nodes.role_words.SCORES` as `role_<name>`
    - `weight_change_q`, `_k`, `_v`, `_o` and `weight_change`: relative change of its slices of
      the weights, and of all four, since the base; missing where not known

    `counts` has one row per contrast and step:

    - the step's `reward` and its name, how many `pairs`, how many heads are in each state
      (`emergent` counts all active heads that are no base heads)
    - `<name>_low` and `<name>_high` of `active`, `emergent`, `new`, `pruned` and `surviving`: 95 %
      over bootstrap resamples of the pairs, the same through all checkpoints (`counts.bounds`)
    - `turnover`: share of the heads active here or at the checkpoint before whose state changed,
      missing at the first; `null` and `null_high`: mean and 97.5 % of the same figure between two
      halves of the pairs on this checkpoint
    - `turnover_converged`: the turnover, missing unless this checkpoint and the one before are
      both `converged`
    - `edge_turnover`, `mlp_turnover`: of the circuit's edges, and of the MLPs that write along one:
      share of those in the circuit here or at the checkpoint before that are not in both; of the
      circuits as they were recorded, whatever their verdict
    - the numbers of the record's `Analysis`: `faithfulness`, `jaccard`, completeness `gap`, ...
    - `converged` (by the gap), the record's `verdict` in one word, `seconds` spent on tracking
    """

    records: Sequence[Record]
    heads: pd.DataFrame
    counts: pd.DataFrame
    thresholds: Thresholds

    @classmethod
    def of(cls, records: Sequence[Record], thresholds: Thresholds | None = None) -> Timeline:
        """The timeline of at least one record; raises `BadInput` where there is none."""
        if not records:
            raise BadInput("no records: nothing has been analysed yet")
        thresholds = thresholds or Thresholds.kept(records[-1].thresholds)
        contrasts = list(records[0].analyses)
        heads = [head_table(records, contrast, thresholds) for contrast in contrasts]
        counts = [
            counts_of(records, contrast, of_contrast, thresholds)
            for contrast, of_contrast in zip(contrasts, heads, strict=True)
        ]
        whole = pd.concat(heads, ignore_index=True)
        return cls(records, whole, pd.concat(counts, ignore_index=True), thresholds)

    @classmethod
    def read(cls, run: Path, changed: Mapping[str, float] | None = None) -> Timeline:
        """The timeline of a run's folder, by the thresholds that its last record keeps, but for
        those that are `changed`, by their names.

        Raises `BadInput` where there is no such run, no ledger in it or no record in that.
        """
        ledger = RunFolder(run).ledger
        if not Path(run).is_dir():
            raise BadInput(f"{run}: no such run")
        records = ledger.records()
        if not records:
            raise BadInput(f"{ledger.folder} has no records; sparks track {run} makes them")
        return cls.of(records, Thresholds.kept({**records[-1].thresholds, **(changed or {})}))

    @property
    def contrasts(self) -> list[str]:
        """The contrasts, the main one first."""
        return list(self.records[0].analyses)

    def of_contrast(self, contrast: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The rows of `heads` and of `counts` of one contrast; `BadInput` for others."""
        if contrast not in self.contrasts:
            raise BadInput(
                f"no prompt pairs of contrast {contrast!r}; there are {', '.join(self.contrasts)}"
            )
        return self.heads[self.heads["contrast"] == contrast], self.counts[
            self.counts["contrast"] == contrast
        ]

    def at(self, step: int, contrast: str) -> pd.DataFrame:
        """The heads at one step, in the graph's order."""
        return self.heads[(self.heads["step"] == step) & (self.heads["contrast"] == contrast)]
