"""Watching a run: its records are made beside its training, as its checkpoints become complete.

Several watchers share a run: each claims the step that it analyses. What one that is killed was at,
another takes, or the same when it is started again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from pathlib import Path

from tracking.ledger.record import Record
from tracking.ledger.screens import OutOfTurn
from tracking.run_folder import RunFolder
from tracking.timeline.timeline import Timeline
from tracking.views.dashboard import Dashboard
from tracking.views.terminal import Table
from tracking.worker import Worker
from train.archive import keep_ledger
from train.checkpoints.analyst import Analyst
from train.checkpoints.records import set_aside_others
from train.checkpoints.waiting import analysable, release
from train.config import Job
from train.run.console import say
from train.run.manifest import MANIFEST
from train.run.reporting import join_wandb, leave_wandb
from train.run.signals import Stop

SOON, LATE = 0.5, 5.0  # seconds until the next look at a run; longer while nothing comes of them
TRIES = 2  # of a step whose analysis fails: its checkpoint may have been moved meanwhile


def wait_for(run: RunFolder, load: Callable[[], Job]) -> Job:
    """The job of a run, as soon as its training has settled its settings and its prompt pairs."""
    pause = SOON
    while True:
        if run.config_path.exists():
            job = load()
            if not job.ours.track or run.ledger.pairs_path.exists() or _ended(run):
                return job
        if pause == SOON:
            say(f"waiting    for {run.path} to begin")
        pause = _sleep(pause)


class Watcher:
    """One of those that make the records of a run until it has ended."""

    def __init__(self, job: Job, view: Table) -> None:
        self.job, self.view, self.run = job, view, RunFolder(job.folder)
        self.failures: Counter[int] = Counter()  # by step
        for damage in self.run.ledger.set_aside_damaged():
            say(f"set aside  {damage}")
        ledger, steps = self.run.ledger, (0, *analysable(self.run.path))
        set_aside_others(self.run.path, ledger, job.settings, steps)
        self.dashboard = Dashboard()

    @cached_property
    def analyst(self) -> Analyst:
        """What makes the records; with the first one the run's dashboards are opened too."""
        analyst = Analyst(self.job)
        if self.job.watched:  # else the training process has them open
            join_wandb(self.job)
            self.dashboard.open(self.job.training, 0, analyst.worker.facts())
        return analyst

    def until_the_end(self) -> Timeline:
        """Make records until the run has ended and every checkpoint has its own.

        Raises `Stop` where one cannot be made.
        """
        say(f"watching   {self.run.path}")
        pause = SOON
        while True:
            ended = _ended(self.run)  # before the look: it sees all that was saved until then
            checkpoints = analysable(self.run.path)
            if self._made_one(checkpoints):
                pause = SOON
            elif ended and not self._todo(checkpoints):
                break
            else:
                pause = _sleep(pause)
        if lost := self._lacking(analysable(self.run.path)):
            steps = ", ".join(map(str, lost))
            raise Stop(f"no record of step {steps}; sparks track {self.run.path} tries again")
        timeline = Worker(self.run.ledger, {}, thresholds=self.job.thresholds).derive()
        if self.job.watched:  # else the training process keeps it
            keep_ledger(self.job)
        return timeline

    def close(self) -> None:
        """Write what dashboards have not written yet, and leave the run in W&B."""
        self.dashboard.close()
        leave_wandb()

    def _lacking(self, checkpoints: Iterable[int]) -> list[int]:
        """The steps that can be analysed and have no record, in order."""
        recorded = set(self.run.ledger.steps())
        return [step for step in (0, *checkpoints) if step not in recorded]

    def _todo(self, checkpoints: Iterable[int]) -> list[int]:
        return [step for step in self._lacking(checkpoints) if self.failures[step] < TRIES]

    def _made_one(self, checkpoints: Mapping[int, Path]) -> bool:
        """Make one record, the earliest that is free and in turn; whether there was one."""
        ledger, todo = self.run.ledger, self._todo(checkpoints)
        for step in todo:
            earlier = [other for other in self._lacking(checkpoints) if other < step]
            awaited = [other for other in earlier if other in todo or ledger.claimed(other)]
            if not self.analyst.worker.in_turn(step, awaited):
                break
            if self._work(step, checkpoints, awaited) is not None:
                release(self.run)
                self._show(step)
                return True
            if not ledger.claimed(step) and step not in ledger.steps():
                break  # it failed, or its turn has not come
        release(self.run)  # also what others have made
        return False

    def _work(
        self, step: int, checkpoints: Mapping[int, Path], awaited: Collection[int]
    ) -> Record | None:
        try:
            return self.analyst.work(step, checkpoints, awaited)
        except OutOfTurn:
            return None
        except (OSError, ValueError, RuntimeError) as error:
            self.failures[step] += 1
            self.view.failed(step, error)
            self.dashboard.alert("Tracking failed", f"Step {step}: {error}. Watching goes on.")
            return None

    def _show(self, step: int) -> None:
        timeline, place = self.analyst.worker.derive(), self.run.ledger.offset + step
        self.view.show(timeline, place)
        upto = [record for record in timeline.records if record.step <= place]
        if len(upto) < len(timeline.records):  # another watcher was quicker with a later step
            timeline = Timeline.of(upto, self.job.thresholds)
        self.dashboard.show(timeline, None)


def _sleep(seconds: float) -> float:
    """Wait; how long to wait the next time."""
    time.sleep(seconds)
    return min(2 * seconds, LATE)


def _ended(run: RunFolder) -> bool:
    """Whether training has written its last: the manifest of the finished model."""
    return (run.path / MANIFEST).exists()
