"""Print a run in the terminal, from its ledger alone.

    sparks show RUN [--control RUN2] [--follow] [--track_share 0.1 ...]

A row per checkpoint and contrast with the behaviour first, the map of heads and MLPs at the last
one, and what happened in a few sentences. With `--control`, a run in which nothing was taught,
shares that drift are set against its. With `--follow` rows come as checkpoints are analysed, until
the run is over: until its newest checkpoint is at the last step of the training and has been
analysed, or could not be; of checkpoints that any trainer made, until all have been that `sparks
track` is at. The run may be resumed meanwhile: rows that it makes again come again. A
run that was killed is never over; Ctrl-C stops. Other thresholds read the same records otherwise;
nothing is analysed or written.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tracking.errors import BadInput
from tracking.run_folder import RunFolder
from tracking.timeline.timeline import Timeline
from tracking.views.terminal import Table
from train.evals.estimates import solved
from train.flags.control import add_control, control_of
from train.flags.parsing import add_thresholds, make_parser, thresholds_of

POLL = 1.0  # seconds between two looks at the ledger


def main(arguments: Sequence[str]) -> None:
    """Run `sparks show` with these arguments."""
    parser = make_parser("show", __doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument("--follow", action="store_true", help="go on until the run is over")
    add_control(parser)
    add_thresholds(parser)
    options = parser.parse_args(arguments)
    thresholds = thresholds_of(options)
    control = control_of([options.run], options.control, thresholds)
    view = Watch(options.run, thresholds, control)
    try:
        if options.follow:
            view.follow()
        view.conclude()
    except OSError as error:
        raise BadInput(f"{error.filename or options.run}: {error.strerror or error}") from None


class Watch:
    """What has been shown of a run, and what is new."""

    def __init__(
        self,
        run: Path,
        thresholds: Mapping[str, float] | None = None,
        control: Timeline | None = None,
    ) -> None:
        self.run, self.thresholds, self.control = run, thresholds, control
        self.ledger, self.table = RunFolder(run).ledger, Table()
        self.shown: dict[Path, tuple[int, int]] = {}  # records and marks: inode and time

    def follow(self) -> None:
        """Show what comes until the run is over; `BadInput` where there is no such run."""
        if not self.run.is_dir():
            raise BadInput(f"{self.run}: no such run")
        if not self.ledger.steps():
            self.table.note(f"waiting for the first record in {self.ledger.folder}")
        while True:
            over = self._over()  # asked first: what came before it was over is shown below
            steps = self.ledger.steps()
            try:
                self._show_new()
            except (BadInput, FileNotFoundError):
                if steps == self.ledger.steps():
                    raise
                continue  # a resumed run has just put records aside
            if over:
                return
            time.sleep(POLL)

    def conclude(self) -> None:
        """Show what was not shown, the map of heads and MLPs and what happened."""
        timeline = Timeline.read(self.run, self.thresholds, self.control)
        self._show_new(timeline)
        self.table.close(timeline)
        self.table.sentences(timeline)
        for step, accuracies in solved(self.run).items():
            self.table.note(f"step {self.ledger.offset + step} solves {', '.join(accuracies)}")
        if missing := [self.ledger.offset + step for step in self.ledger.marks()]:
            self.table.note(f"\nnot analysed: step {', '.join(map(str, missing))}")

    def _show_new(self, timeline: Timeline | None = None) -> None:
        marks = self.ledger.marks()
        paths = [self.ledger.path(step) for step in self.ledger.own_steps()]
        paths += [self.ledger.base.path(step) for step in self.ledger.base.own_steps()]
        marked = [self.ledger.mark_path(step) for step in marks]
        now = {path: _identity(path) for path in (*paths, *marked)}
        gone = [
            self._place(path) for path in self.shown if path not in now and path.suffix != ".json"
        ]
        if gone:
            self.table.note(f"put aside: step {', '.join(map(str, sorted(gone)))}")
        new = [path for path, identity in now.items() if self.shown.get(path) != identity]
        if any(path.suffix != ".json" for path in new) and timeline is None:
            timeline = Timeline.read(self.run, self.thresholds, self.control)
        for path in sorted(new, key=self._place):
            if path.suffix == ".json":
                self.table.failed(self._place(path), marks[_step(path)].message)
            elif timeline is not None:
                self.table.show(timeline, self._place(path))
        self.shown = now

    def _place(self, path: Path) -> int:
        """The step of a record or a mark on the axis of all stages."""
        own = path.parent == self.ledger.folder
        return _step(path) + (self.ledger.offset if own else 0)

    def _over(self) -> bool:
        """Whether the newest checkpoint is the training's last, and has its record or failure; of
        models that `sparks track` analyses, whether all have."""
        settled = {*self.ledger.steps(), *self.ledger.marks()}
        if steps := RunFolder(self.run).config().get("steps"):  # by `sparks track`
            return settled >= {*steps}
        checkpoints = RunFolder(self.run).checkpoints()
        if not checkpoints:
            return False
        last = max(checkpoints)
        try:
            state = json.loads((checkpoints[last] / "trainer_state.json").read_text())
            done = state["global_step"] >= max(state["max_steps"], _wanted(self.run)) > 0
        except (OSError, ValueError, LookupError, TypeError):
            return False  # it is being written
        return done and last in settled


def _wanted(run: Path) -> int:
    """The steps that a resumed run goes on to, as its `config.yaml` says; 0 where it does not."""
    try:
        return max(int(RunFolder(run).config()["max_steps"]), 0)
    except (LookupError, TypeError, ValueError):
        return 0


def _step(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns
