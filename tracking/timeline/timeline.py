"""The states of heads over the checkpoints of a run: a pure function of its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path

import pandas as pd

from tracking.errors import BadInput
from tracking.ledger.record import Record
from tracking.run_folder import RunFolder
from tracking.timeline.activity import Thresholds
from tracking.timeline.counts import counts_of
from tracking.timeline.node_table import node_table
from tracking.timeline.shares import Shares


@dataclass(frozen=True)
class Timeline:
    """What a run's records say of its heads and MLPs.

    `nodes` has one row per contrast, step and node, in that order: state and effect, both shares
    with intervals, when it emerged and whether that lasts, entry and membership, roles and weight
    change of heads. `counts` has one row per contrast and step: the reward, the behaviour with its
    interval, how many heads (and, as `mlps_...`, MLPs) are in each state, turnover beside its null,
    the circuit's figures and the wiring that is kept. `tracking.timeline.columns` (as a page,
    `docs/timeline.md`) has every column in a line, `node_table` what the states mean.
    """

    records: Sequence[Record]
    nodes: pd.DataFrame
    counts: pd.DataFrame
    thresholds: Thresholds
    control: Timeline | None = None  # the run that drift stands against

    @classmethod
    def of(
        cls,
        records: Sequence[Record],
        thresholds: Thresholds | None = None,
        control: Timeline | None = None,
    ) -> Timeline:
        """The timeline of at least one record; raises `BadInput` where there is none.

        `control` is the timeline of a run in which nothing was taught: a share that drifts further
        than any of its nodes has `grown` or `shrunk`.
        """
        if not records:
            raise BadInput("no records: nothing has been analysed yet")
        records = [_comparable(record, records[0].step) for record in records]
        thresholds = thresholds or Thresholds.kept(records[-1].thresholds)
        nodes, counts = [], []
        for contrast in records[0].analyses:
            shares = [Shares.of(record.analyses[contrast]) for record in records]
            level = control and control.drift(contrast)
            nodes.append(node_table(records, contrast, shares, thresholds, level))
            counts.append(counts_of(records, contrast, shares, nodes[-1], thresholds))
        tables = (pd.concat(one, ignore_index=True) for one in (nodes, counts))
        return cls(records, *tables, thresholds, control)

    @classmethod
    def read(
        cls,
        run: Path,
        changed: Mapping[str, float] | None = None,
        control: Timeline | None = None,
    ) -> Timeline:
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
        kept = Thresholds.kept({**records[-1].thresholds, **(changed or {})})
        return cls.of(records, kept, control)

    @property
    def stages(self) -> list[int]:
        """The steps at which a later stage of training began, on the axis of all of them."""
        return sorted({record.began for record in self.records} - {0})

    @property
    def contrasts(self) -> list[str]:
        """The contrasts, the main one first."""
        return list(self.records[0].analyses)

    def of_contrast(self, contrast: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The rows of `nodes` and of `counts` of one contrast; `BadInput` for others."""
        if contrast not in self.contrasts:
            raise BadInput(
                f"no prompt pairs of contrast {contrast!r}; there are {', '.join(self.contrasts)}"
            )
        return self.nodes[self.nodes["contrast"] == contrast], self.counts[
            self.counts["contrast"] == contrast
        ]

    def at(self, step: int, contrast: str) -> pd.DataFrame:
        """The nodes at one step, in the graph's order."""
        return self.nodes[(self.nodes["step"] == step) & (self.nodes["contrast"] == contrast)]

    def drift(self, contrast: str) -> float:
        """The largest change of any node's share since step 0, at any checkpoint; NaN where step 0
        or all later ones have no behaviour that something could be a share of. `BadInput` for an
        unknown contrast, and for a single checkpoint, which has no drift."""
        if len(self.records) < 2:
            raise BadInput("a control run of one checkpoint says nothing of drift; it takes two")
        nodes, counts = self.of_contrast(contrast)
        there = counts.loc[counts["verdict"] != "absent", "step"].tolist()
        if self.records[0].step not in there:
            return nan
        return float(nodes.loc[nodes["step"].isin(there[1:]), "change"].abs().max())


def _comparable(record: Record, first: int) -> Record:
    """Without wiring that was held against another step than the `first`, which had no record when
    this one was made."""
    analyses = {
        contrast: replace(one, wiring=None)
        if one.wiring and one.wiring.against not in (None, first)
        else one
        for contrast, one in record.analyses.items()
    }
    return replace(record, analyses=analyses)
