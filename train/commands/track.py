"""Analyse a run's checkpoints outside the training process, also while it trains.

    sparks track RUN [--rebuild] [--track_select share=0.9 ...]

Every whole checkpoint without a record, and the model that the run began with, is analysed with the
run's own settings and pairs; `--track_...` flags change the settings. Thresholds are another
reading of the same records: they cost no analysis. Records that were made with other settings are
moved to `heads/superseded/` and made again, so that all compare; steps whose checkpoint is gone
leave the timeline with theirs. `--rebuild` only makes the timeline and the picture again from the
records.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tracking.contrast import Subject
from tracking.errors import BadInput
from tracking.ledger.ledger import Ledger, Mark
from tracking.ledger.record import PROCEDURE
from tracking.ledger.reward import reward_between
from tracking.nodes.weight_change import snapshot
from tracking.pairs.frozen import freeze, load_pairs
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.run_folder import RunFolder
from tracking.timeline.activity import Thresholds
from tracking.views.conclusion import conclude
from tracking.views.terminal import Table
from tracking.worker import Worker
from train import config, model
from train.commands import help as helping
from train.commands.parsing import make_parser
from train.config import Job
from train.data import contrasts
from train.data.contrasts import digit_ids
from train.model import Start
from train.run import resume
from train.run.console import quieten, say
from train.run.lock import Lock
from train.run.manifest import MANIFEST

FROZEN = ("--track_pairs_", "--track_contrasts")  # what was settled before the first step
JUDGING = tuple(f"--track_{item.name}" for item in dataclasses.fields(Thresholds))


def main(arguments: Sequence[str]) -> None:
    """Run `sparks track` with these arguments."""
    parser = make_parser("track", __doc__)
    parser.epilog = "\n\n".join(
        f"{title}:\n" + "\n".join(lines) for title, lines in helping.analysis().items()
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument("--rebuild", action="store_true", help="make nothing but the timeline")
    options, rest = parser.parse_known_args(arguments)
    for word in rest:
        if word.startswith("--") and not word.startswith("--track_"):
            raise BadInput(f"sparks track takes --rebuild and --track_... flags, not {word!r}")
        if word.startswith(FROZEN) and RunFolder(options.run).ledger.pairs_path.exists():
            raise BadInput(
                f"{options.run}: its prompt pairs are frozen; {word!r} cannot change them"
            )
        if options.rebuild and word.startswith("--") and word.partition("=")[0] not in JUDGING:
            raise BadInput(f"--rebuild takes the records as they are; it cannot honour {word!r}")
    quieten()
    try:
        _track(options.run, options.rebuild, rest)
    except OSError as error:
        raise BadInput(f"{error.filename or options.run}: {error.strerror or error}") from None


def _track(folder: Path, rebuild: bool, flags: Sequence[str]) -> None:
    job, view = _job(folder, flags), Table()
    ledger = RunFolder(folder).ledger
    worker = Worker(ledger, {}, job.settings, job.thresholds)
    if not rebuild:
        _analyse(job, worker, view)
    if not ledger.steps():
        raise BadInput(f"{ledger.folder} has no records; sparks track {folder} makes them")
    timeline = worker.derive()
    if rebuild:
        for step in ledger.steps():
            view.show(timeline, step)
    conclude(RunFolder(folder), timeline, view)


def _job(folder: Path, flags: Sequence[str]) -> Job:
    """The job that made the run, as its `config.yaml` tells."""
    path = RunFolder(folder).config_path
    try:
        words = path.read_text().splitlines()[0].split()
    except (OSError, UnicodeDecodeError, IndexError):
        raise BadInput(f"{folder} is no run of Sparks: it has no readable config.yaml") from None
    if words[:2] != ["#", "sparks"] or len(words) < 3 or words[2] not in config.TYPES:
        raise BadInput(
            f"{path} does not say which job it is; its first line must be '# sparks ...'"
        )
    return config.load(
        words[2], ["--config", str(path), "--output_dir", str(folder), *flags], False
    )


def _analyse(job: Job, worker: Worker, view: Table) -> None:
    """Make what is missing; a training job may be at work on the same run."""
    ledger = worker.ledger
    checkpoints = resume.complete(job.folder)
    _set_aside_others(job, ledger, (0, *checkpoints))
    _tell_deleted(ledger, checkpoints)
    todo = [step for step in (0, *checkpoints) if step not in ledger.steps()]
    if not todo:
        say(f"tracked    {job.folder}: every checkpoint has its record")
        return
    start = model.start(job)
    worker.pairs = _pairs(job, start, ledger)
    say(f"pairs      {contrasts.describe(dict(worker.pairs))}")
    say(f"tracking   {len(todo)} of {len(checkpoints) + 1} checkpoints in {job.folder}")
    models = model.at_steps(job, start, checkpoints)
    worker.subject = Subject(snapshot(models[0]()), digit_ids(start.tokenizer))
    expected = "reward" if job.name == "grpo" else "loss"
    for step in todo:
        history = _history(checkpoints[step]) if step else []
        reward = reward_between(history, ledger.before(step, checkpoints), step, expected)
        try:
            unchanged = _unchanged(checkpoints[step]) if step else lambda: True
            record = worker.work(step, models[step], reward, unchanged)
        except (BadInput, OSError, ValueError, RuntimeError) as error:
            view.failed(step, error)
            continue
        if record is None:
            say(f"left       step {step}: another process is at it, or the run has left it")
        else:
            view.show(worker.derive(), step)


def _tell_deleted(ledger: Ledger, checkpoints: Mapping[int, Path]) -> None:
    for step, mark in ledger.marks().items():
        if step and step not in checkpoints:
            gone = "its checkpoint was deleted before it was analysed"
            ledger.mark(Mark(step, "deleted", gone))
            say(f"lost       step {step}: {gone} ({mark.why} before)")


def _set_aside_others(job: Job, ledger: Ledger, can_be_made: Sequence[int]) -> None:
    """Move records that cannot be read, or were made with other settings, out of the way; not
    while a training job is at work that makes more of the kind."""
    others = dict(_others(ledger, _science(dataclasses.asdict(job.settings))))
    if not others:
        return
    with Lock(job.folder):
        for step, why in others.items():
            ledger.set_aside(step)
            again = "made again" if step in can_be_made else "its checkpoint is gone"
            say(f"set aside  the record of step {step}: {why}; {again}")


def _others(ledger: Ledger, wanted: dict[str, Any]) -> Iterator[tuple[int, str]]:
    for step in ledger.steps():
        try:
            if _science(ledger.read(step).settings) != wanted:
                yield step, "made with other settings"
        except BadInput as error:
            yield step, str(error)


def _science(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that change what is found."""
    return {k: v for k, v in settings.items() if k not in PROCEDURE}


def _pairs(job: Job, start: Start, ledger: Ledger) -> dict[str, PromptPairs]:
    """The run's frozen pairs; where it was not tracked, those that its recipe means."""
    if ledger.pairs_path.exists():
        return load_pairs(ledger.pairs_path)
    frozen = contrasts.build(job, start.tokenizer, lambda: model.weights(job, start))
    freeze(frozen, ledger.pairs_path)
    return frozen


def _unchanged(checkpoint: Path) -> Callable[[], bool]:
    """Whether a checkpoint is the one that it was when this was called: a resumed run moves it
    aside and makes another of its name."""

    def seen() -> tuple[int, int] | None:
        try:
            status = (checkpoint / MANIFEST).stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    before = seen()
    return lambda: before is not None and seen() == before


def _history(checkpoint: Path) -> list[dict[str, Any]]:
    return json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
