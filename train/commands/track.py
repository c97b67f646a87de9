"""Analyse checkpoints outside the training process, also while it trains.

    sparks track RUN [--rebuild] [--wiring] [--track_select share=0.9 ...]
    sparks track RUN --watch
    sparks track FOLDER --pairs FILE.jsonl --output_dir RUN [--base MODEL] [--reward FILE.csv]
    sparks track MODEL MODEL ... --pairs FILE.jsonl --output_dir RUN

Of a run, every whole checkpoint without a record, and the model that the run began with, is
analysed with the run's own settings and pairs; `--track_...` flags change the settings. Thresholds
are another reading of the same records: they cost no analysis. Records that were made with other
settings are moved to `heads/superseded/` and made again, so that all compare; steps whose
checkpoint is gone leave the timeline with theirs. `--rebuild` only makes the timeline and the
picture again from the records. `--wiring` also tries the ranking of each checkpoint in the model of
the next, and the last one's in all that still exist, into `heads/wiring.parquet`. `--watch` waits
for the run and its checkpoints, and ends when the run has ended; several share a run.

A folder of Hugging Face checkpoints that any trainer made, or models in a row (folders, or Hub
names with @revision), are analysed into a folder that is then shown, reported and gone on with
(`sparks track RUN`) like a run's.

`--device_map auto` spreads a model that is too large for one GPU over all that are there.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from tracking.errors import BadInput, Postponed
from tracking.ledger.ledger import Ledger, Mark
from tracking.pairs.frozen import load_pairs
from tracking.rewiring import rewiring
from tracking.run_folder import RunFolder
from tracking.settings import Settings
from tracking.timeline.activity import Thresholds
from tracking.views.conclusion import conclude
from tracking.views.terminal import Table
from tracking.worker import Worker
from train import config, model
from train.checkpoints import track_models
from train.checkpoints.analyst import Analyst
from train.checkpoints.records import (
    make_record,
    out_of_turn,
    set_aside_others,
    set_aside_out_of_turn,
)
from train.checkpoints.waiting import analysable, release
from train.checkpoints.watch import Watcher, wait_for
from train.config import Job
from train.data import contrasts
from train.flags import help as helping
from train.flags.parsing import make_parser
from train.run import resume
from train.run.console import quieten, say
from train.run.signals import PREEMPTED, Stop, ended_at_once

FROZEN = (
    "--track_pairs_",
    "--track_contrasts",
    "--track_base",
)  # what was settled before the first step
MACHINE = ("--track_batch_size", "--track_memory_gb")  # what may differ where it is analysed
MAPS = ("auto", "balanced", "balanced_low_0", "sequential")  # accelerate's
JUDGING = tuple(f"--track_{item.name}" for item in dataclasses.fields(Thresholds))


def main(arguments: Sequence[str]) -> None:
    """Run `sparks track` with these arguments."""
    parser = make_parser("track", __doc__)
    parser.epilog = "\n\n".join(
        f"{title}:\n" + "\n".join(lines) for title, lines in helping.analysis().items()
    )
    parser.add_argument("models", nargs="+", metavar="RUN", help="a run, a folder, or models")
    parser.add_argument("--rebuild", action="store_true", help="make nothing but the timeline")
    parser.add_argument("--wiring", action="store_true", help="wiring between all checkpoints")
    parser.add_argument("--watch", action="store_true", help="beside its training, until it ends")
    parser.add_argument("--pairs", metavar="FILE.jsonl", help="prompt pairs, where it is no run")
    parser.add_argument("--output_dir", metavar="RUN", help="where records go, where it is no run")
    parser.add_argument("--base", metavar="MODEL", help="the model of step 0, if not the first")
    parser.add_argument("--device_map", choices=MAPS, help="spread a model over several GPUs")
    parser.add_argument("--reward", metavar="FILE.csv", help="the reward: columns step,reward")
    options, flags = _parse(parser, arguments)
    for word in flags:
        if word.startswith("--") and not word.startswith("--track_"):
            raise BadInput(f"sparks track takes --rebuild and --track_... flags, not {word!r}")
        name = word.partition("=")[0] if word.startswith("--") else ""
        if options.rebuild and name and name not in JUDGING:
            raise BadInput(f"--rebuild takes the records as they are; it cannot honour {word!r}")
        if options.watch and name and name not in MACHINE:
            raise BadInput(f"--watch keeps to the run's settings; it cannot honour {word!r}")
    quieten()
    try:
        _choose(options, flags)
    except OSError as error:
        raise BadInput(
            f"{error.filename or options.models[0]}: {error.strerror or error}"
        ) from None


def _parse(
    parser: argparse.ArgumentParser, arguments: Sequence[str]
) -> tuple[argparse.Namespace, list[str]]:
    """The options of the command, and the flags of the analysis, wherever they stand in it."""
    for part in (Settings, Thresholds):
        for item in dataclasses.fields(part):
            name = f"--track_{item.name}"
            parser.add_argument(name, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    options, rest = parser.parse_known_args(arguments)
    given = {name: value for name, value in vars(options).items() if name.startswith("track_")}
    return options, [*(word for name in given for word in (f"--{name}", given[name])), *rest]


def _choose(options: argparse.Namespace, flags: Sequence[str]) -> None:
    """A training run, or any other models."""
    folder, named = Path(options.models[0]), (options.pairs, options.base, options.reward)
    ours = track_models.is_ours(folder)
    if options.rebuild and (len(options.models) > 1 or options.output_dir or any(named)):
        raise BadInput("--rebuild takes the folder of a run, and --track_... thresholds")
    if options.watch:
        others = (options.rebuild, options.wiring, options.output_dir, *named)
        if ours or len(options.models) > 1 or any(others):
            raise BadInput("--watch takes the folder of a training run, and no other option")
        _watch(folder, flags, options.device_map)
        return
    if options.wiring and (options.rebuild or ours or len(options.models) > 1 or any(named)):
        raise BadInput("--wiring takes the folder of a training run, without --rebuild")
    if options.rebuild and ours:
        track_models.rebuild(folder, flags)
    elif ours or len(options.models) > 1 or options.output_dir or any(named):
        asked = track_models.request(options.models, flags, options.output_dir, *named)
        track_models.track(asked, options.device_map)
    else:
        for word in flags:
            if word.startswith(FROZEN) and RunFolder(folder).ledger.pairs_path.exists():
                raise BadInput(
                    f"{folder}: its prompt pairs are frozen; {word!r} cannot change them"
                )
        _track(_job(folder, flags, options.device_map), options.rebuild, options.wiring)


def _track(job: Job, rebuild: bool, wiring: bool) -> None:
    folder, view = job.folder, Table()
    ledger = RunFolder(folder).ledger
    if not rebuild:
        _analyse(job, ledger, view)
        release(RunFolder(folder))
    if not ledger.steps():
        raise BadInput(f"{ledger.folder} has no records; sparks track {folder} makes them")
    timeline = Worker(ledger, {}, job.settings, job.thresholds).derive()
    if rebuild:
        for record in timeline.records:
            view.show(timeline, record.step)
    conclude(RunFolder(folder), timeline, view)
    if wiring:
        _rewire(job, ledger)


def _watch(folder: Path, flags: Sequence[str], device_map: str | None) -> None:
    """Make records until the run has ended. Raises `Stop` on SIGTERM or SIGUSR1."""
    try:
        with ended_at_once():
            view, run = Table(), RunFolder(folder)
            watcher = Watcher(wait_for(run, lambda: _job(folder, flags, device_map)), view)
            try:
                timeline = watcher.until_the_end()
            finally:
                watcher.close()
            conclude(run, timeline, view)
    except Postponed:
        raise Stop("asked to end; start the watcher again with the same line", PREEMPTED) from None


def _rewire(job: Job, ledger: Ledger) -> None:
    """Print and write the wiring between the checkpoints that still exist."""
    pairs, start = load_pairs(ledger.pairs_path), model.start(job)
    models = model.at_steps(job, start, resume.complete(job.folder))
    placed = {ledger.offset + step: load for step, load in models.items()}
    table = rewiring(ledger.records(), pairs, placed, job.settings.batch_size)
    ledger.write_table(ledger.wiring_path, table)
    say(f"wiring     between checkpoints, in {ledger.wiring_path}")
    say(table.round(2).to_string(index=False))


def _job(folder: Path, flags: Sequence[str], device_map: str | None = None) -> Job:
    """The job that made the run; its models are loaded by accelerate's `device_map`, where one is
    given."""
    job = config.of_run(folder, flags)
    if device_map:
        given = job.training.model_init_kwargs or {}
        job.training.model_init_kwargs = {**given, "device_map": device_map}
    return job


def _analyse(job: Job, ledger: Ledger, view: Table) -> None:
    """Make what is missing; a training job may be at work on the same run."""
    checkpoints = analysable(job.folder, say)
    set_aside_others(job.folder, ledger, job.settings, (0, *checkpoints))
    _tell_deleted(ledger, checkpoints)
    todo = [step for step in (0, *checkpoints) if step not in ledger.steps()]
    if not (todo or out_of_turn(ledger)):
        say(f"tracked    {job.folder}: every checkpoint has its record")
        return
    analyst = Analyst(job)
    say(f"pairs      {contrasts.describe(dict(analyst.worker.pairs))}")
    say(f"tracking   {len(todo)} of {len(checkpoints) + 1} checkpoints in {job.folder}")
    for step in todo:
        make_record(analyst.worker, step, partial(analyst.work, step, checkpoints), view)
    for step in set_aside_out_of_turn(job.folder, ledger, (0, *checkpoints)):
        make_record(analyst.worker, step, partial(analyst.work, step, checkpoints), view)


def _tell_deleted(ledger: Ledger, checkpoints: Mapping[int, Path]) -> None:
    for step, mark in ledger.marks().items():
        if step and step not in checkpoints:
            gone = "its checkpoint was deleted before it was analysed"
            ledger.mark(Mark(step, "deleted", gone))
            say(f"lost       step {step}: {gone} ({mark.why} before)")
