"""Compare models on the same prompt pairs: what they do, who carries it, by which wires.

    sparks compare RUN RUN2 [--pairs FILE.jsonl] [--output_dir DIR]
    sparks compare RUN@0 RUN@40 RUN
    sparks compare MODEL MODEL ... --pairs FILE.jsonl
    sparks compare --group sft=runs/sft-s0,runs/sft-s1 --group grpo=runs/grpo-s*
    sparks compare A B --contrast opening --benchmarks NAMES
    sparks compare MODEL --thinking [--pairs FILE.jsonl]

A word is a run (its last record; RUN@STEP or RUN/checkpoint-STEP for another one), a folder with a
model, or a Hub name. All are compared on the pairs of the file or, without one, on those of the
first run; what has no record on these is analysed now, by the first run's settings but for what
`--track_...` flags say. Tables go as CSV into `--output_dir`, with every finding in a sentence.
A run with completions beside its base (RUN@0, or the model that it began with, named first) begins
with what training changed: both answer --problems of the run's own, and where they differ most
nodes are exchanged. With `--group` runs are compared as they were tracked, with intervals over
runs, in pairs where they began with the same bases. With `--contrast opening` two models, the base
first, are compared on how each begins to answer: what of their difference is the weights' and what
the prompt's. With `--thinking` one model is compared with itself, with thinking on, off, and under
a control.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from tracking.comparison.behaviour import behaviour_section
from tracking.comparison.exchange.section import parts_section
from tracking.comparison.function.bases import matching_section
from tracking.comparison.function.heads import heads_section
from tracking.comparison.function.layers import layers_section
from tracking.comparison.function.specificity import specificity_section
from tracking.comparison.groups.groups import groups_section
from tracking.comparison.measured import measured_alike
from tracking.comparison.nodes import nodes_section
from tracking.comparison.party import Comparison, Party, bases_section
from tracking.comparison.prompts.breadth import breadth_section
from tracking.comparison.prompts.emergent import opening_section
from tracking.comparison.prompts.modes import modes_section
from tracking.comparison.section import Section
from tracking.comparison.wiring import wiring_section
from tracking.errors import BadInput
from tracking.settings import Settings
from tracking.timeline.activity import Thresholds
from train.checkpoints.track_models import settings_of
from train.comparison.groups import groups_of
from train.comparison.openings import Openings, add_openings, opening_pairs
from train.comparison.output import show, write
from train.comparison.parties import (
    Pairs,
    Procedure,
    parties,
    relation_of,
    relations,
    same_pairs,
)
from train.comparison.places import Place, ends, places
from train.comparison.shift import PROBLEMS, shift_section_of, subjects
from train.comparison.thinking import ablations, in_modes
from train.flags.control import add_control
from train.flags.parsing import make_parser
from train.run.console import quieten, say
from train.run.folder import holds_run

SECTIONS = (
    bases_section,
    behaviour_section,
    nodes_section,
    parts_section,
    layers_section,
    heads_section,
    wiring_section,
    matching_section,
    specificity_section,
)
"""What is said, in order: functions of a `Comparison` that give a `Section`."""
MODE_SECTIONS = (behaviour_section, nodes_section, wiring_section, breadth_section, modes_section)
"""The same of one model in its modes of thinking."""


def main(arguments: Sequence[str]) -> None:
    """Run `sparks compare` with these arguments."""
    options, flags = _parse(arguments)
    if options.group:
        _compare_groups(options, flags)
        return
    if len(options.models) < 2 and not options.thinking:
        raise BadInput("two models are compared at least: sparks compare A B")
    if options.benchmarks and not options.contrast:
        raise BadInput("--benchmarks goes with --contrast opening alone")
    if options.problems < 0:
        raise BadInput(f"--problems is {options.problems}; at least 0, which does not look")
    plain = not (options.thinking or options.contrast)
    if options.control and not plain:
        raise BadInput("--control goes with neither --thinking nor --contrast")
    quieten()
    compared = places(options.models)
    folder = _folder(options, [place.name for place in compared])
    comparison = _comparison(options, flags, compared, folder)
    count = options.problems if plain else 0
    shifts = subjects(comparison, compared, count) if count else ()
    makers = (
        *(partial(shift_section_of, subject, folder=folder) for subject in shifts),
        *_sections(options),
    )
    sections: list[Section] = []
    for make in makers:
        sections.append(make(comparison))
        show(sections[-1])
        written = write(sections, folder)  # at once: the rest may take long, and be ended
    if options.thinking:
        for line in ablations(sections[-1], options.models[0]):
            say(line)
    say(f"\ntables     {len(written) - 1} in {folder}, sentences in findings.txt")


def _prompted(
    options: argparse.Namespace, compared: Sequence[Place]
) -> tuple[Sequence[Place], Sequence[Pairs]]:
    """What is compared, and each one's pairs; `BadInput` for what cannot be."""
    if options.thinking:
        if len(compared) != 1 or options.contrast:
            raise BadInput("--thinking compares the modes of one model: sparks compare MODEL")
        return in_modes(compared[0], options.pairs)
    if options.contrast:
        if options.pairs or not options.benchmarks:
            raise BadInput("openings are answers to problems: --benchmarks NAMES, and no --pairs")
        return compared, opening_pairs(compared, Openings.of(options))
    return compared, same_pairs(compared, options.pairs)


def _sections(options: argparse.Namespace) -> Sequence[Callable[[Comparison], Section]]:
    if options.thinking:
        return MODE_SECTIONS
    return (*SECTIONS, opening_section) if options.contrast else SECTIONS


def _compare_groups(options: argparse.Namespace, flags: Sequence[str]) -> None:
    """Of runs as they were tracked: nothing is analysed."""
    asked = (options.pairs, options.control, options.contrast, options.benchmarks, options.thinking)
    if options.models or flags or any(asked):
        raise BadInput("--group compares runs by their records: it takes --output_dir alone")
    groups = groups_of(options.group)
    section = groups_section(groups, Thresholds())
    folder = _folder(options, groups)
    show(section)
    say(f"\ntables     {len(write([section], folder)) - 1} in {folder}, sentences in findings.txt")


def _comparison(
    options: argparse.Namespace, flags: Sequence[str], compared: Sequence[Place], folder: Path
) -> Comparison:
    """The parties with their records on the same pairs, made where they are missing."""
    settings, thresholds = settings_of(flags, _before(compared))
    control = _control(options.control, compared) if options.control else []
    everyone, pairs = _prompted(options, [*compared, *control])
    how = Procedure(folder / "records", settings, thresholds)
    measured = measured_alike(parties(everyone, pairs, how), settings.batch_size)

    def of(some: Sequence[Party], beside: Comparison | None = None) -> Comparison:
        return Comparison(some, relations(some), thresholds, settings.batch_size, beside)

    count = len(measured) - len(control)
    return of(measured[:count], of(measured[count:]) if control else None)


def _control(run: Path, compared: Sequence[Place]) -> list[Place]:
    """Its first and last checkpoint; `BadInput` where it is compared itself, or is of another shape
    or base than the first model."""
    first, control = compared[0], ends(run)
    if any(place.run and place.run.path.resolve() == run.resolve() for place in compared):
        raise BadInput(f"--control {run} is compared itself; name a run that was taught nothing")
    for place in control:
        if place.model and first.model and (difference := place.model.differs(first.model)):
            raise BadInput(f"--control {run} is of another shape: {difference}")
    relation = relation_of(first, control[0])
    if not relation.one_base:
        raise BadInput(f"--control {run} is not of the base of {first.name}: {relation.rule}")
    return control


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options, and the flags of the analysis."""
    parser = make_parser("compare", __doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="runs, folders or Hub names")
    parser.add_argument(
        "--pairs", action="append", default=[], metavar="FILE.jsonl", help="prompt pairs, as text"
    )
    parser.add_argument(
        "--group", action="append", metavar="NAME=RUN,RUN", help="runs of a group, or runs/sft-s*"
    )
    parser.add_argument(
        "--problems", type=int, default=PROBLEMS, metavar="N",
        help=f"of a run's own, to find what its training changed ({PROBLEMS}; 0: do not look)",
    )  # fmt: skip
    add_control(parser)
    parser.add_argument("--output_dir", metavar="DIR", help="default: runs/compare-A-B")
    add_openings(parser)
    parser.add_argument("--thinking", action="store_true", help="one model, thinking on and off")
    for part in (Settings, Thresholds):
        for item in dataclasses.fields(part):
            name = f"--track_{item.name}"
            parser.add_argument(name, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    given = {name: value for name, value in vars(options).items() if name.startswith("track_")}
    return options, [word for name, value in given.items() for word in (f"--{name}", value)]


def _folder(options: argparse.Namespace, names: Iterable[str]) -> Path:
    """Where tables go: what was asked for, or named after all that is compared; no run's folder."""
    joined = "-".join(name.replace("/", "-") for name in names)
    folder = Path(options.output_dir or Path("runs") / f"compare-{joined[:80]}")
    if folder.is_file():
        raise BadInput(f"{folder} is a file; name a folder for the tables with --output_dir")
    if holds_run(folder):
        raise BadInput(
            f"{folder} holds a run or a model; name another folder for the tables with --output_dir"
        )
    return folder


def _before(compared: Sequence[Place]) -> dict[str, object]:
    """The settings and thresholds of the first run that has a record."""
    for place in compared:
        if place.run and place.step in place.run.ledger.steps():
            record = place.run.ledger.read(place.step)
            kept = {**record.settings, **record.thresholds}
            return {f"track_{name}": value for name, value in kept.items()}
    return {}
