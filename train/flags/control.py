"""A run read against a control: a run in which nothing was taught."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from tracking.errors import BadInput
from tracking.ledger.record import Record
from tracking.run_folder import RunFolder
from tracking.timeline.timeline import Timeline

ALIKE = 0.1  # of the logit differences' size, by which two precisions of one model may differ


def add_control(parser: argparse.ArgumentParser) -> None:
    """The flag that names the control."""
    parser.add_argument(
        "--control", type=Path, metavar="RUN2",
        help="a run in which nothing was taught (a random reward): a share that drifts further "
        "than any of its nodes has grown or shrunk",
    )  # fmt: skip


def control_of(
    runs: Sequence[Path], control: Path | None, changed: Mapping[str, float] | None = None
) -> Timeline | None:
    """The control's timeline, None where none is named; by its own thresholds, but for those that
    are `changed`.

    `BadInput` where it is the only run, has other pairs, or is of a model of another shape or base:
    then nothing that drifts in it says how far the run's nodes drift. A run that has no record yet
    is not looked at.
    """
    if control is None:
        return None
    if {run.resolve() for run in runs} == {control.resolve()}:
        raise BadInput(f"{control} is no control of itself; name a run that was taught nothing")
    beside = Timeline.read(control, changed)
    theirs = beside.records[0]
    for run in runs:
        ledger = RunFolder(run).ledger
        steps = ledger.steps() if run.is_dir() else []
        if not steps:
            continue
        ours = ledger.read(steps[0])
        if (ours.n_layers, ours.n_heads) != (theirs.n_layers, theirs.n_heads):
            raise BadInput(
                f"{control} cannot be the control of {run}: it is of {theirs.n_layers} layers of "
                f"{theirs.n_heads} heads, the run of {ours.n_layers} of {ours.n_heads}"
            )
        if ours.pairs != theirs.pairs:
            raise BadInput(
                f"{control} cannot be the control of {run}: its prompt pairs are others; train it "
                "by the same recipe and seed"
            )
        if not _began_alike(ours, theirs):
            raise BadInput(
                f"{control} cannot be the control of {run}: it began with another model, as the "
                "logits at their first checkpoints say; train it from the same base"
            )
    return beside


def _began_alike(run: Record, control: Record) -> bool:
    """Whether the models of step 0 say the same of the same pairs, but for their precision; True
    where one of them has no such record, or one of before logit differences."""
    if run.step or control.step:
        return True
    for contrast, analysis in run.analyses.items():
        ours, theirs = analysis.behaviour.clean, control.analyses[contrast].behaviour.clean
        if (ours - theirs).norm() > ALIKE * theirs.norm():
            return False
    return True
