"""Compare models on the same prompt pairs: what they do, who carries it, by which wires.

    sparks compare RUN RUN2 [--pairs FILE.jsonl] [--output_dir DIR]
    sparks compare RUN@0 RUN@40 RUN
    sparks compare MODEL MODEL ... --pairs FILE.jsonl
    sparks compare A B --contrast opening --benchmarks NAMES
    sparks compare MODEL --thinking [--pairs FILE.jsonl]

A word is a run (its last record; RUN@STEP or RUN/checkpoint-STEP for another one), a folder with a
model, or a Hub name. All are compared on the pairs of the file or, without one, on those of the
first run; what has no record on these is analysed now, by the first run's settings but for what
`--track_...` flags say. `--contrast opening` compares two models, the base first, on how each
begins to answer, and says what of their difference is the weights' and what the prompt's;
`--thinking` compares one model with thinking on, off, and under a control. Tables go as CSV into
`--output_dir`, with every finding in a sentence.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from tracking.comparison.behaviour import behaviour_section
from tracking.comparison.nodes import nodes_section
from tracking.comparison.origins import origins_section
from tracking.comparison.party import Comparison
from tracking.comparison.prompts.modes import modes_section
from tracking.comparison.prompts.sections import breadth_section, opening_section
from tracking.comparison.section import Section
from tracking.comparison.wiring import wiring_section
from tracking.errors import BadInput
from tracking.settings import Settings
from tracking.timeline.activity import Thresholds
from train.commands.track_models import settings_of
from train.comparison.openings import Openings, add_openings, opening_pairs
from train.comparison.output import show, write
from train.comparison.parties import Pairs, Procedure, parties, relations, same_pairs
from train.comparison.places import Place, places
from train.comparison.thinking import ablations, in_modes
from train.flags.parsing import make_parser
from train.run.console import quieten, say

SECTIONS = (origins_section, behaviour_section, nodes_section, wiring_section)
"""What is said, in order: functions of a `Comparison` that give a `Section`."""


def main(arguments: Sequence[str]) -> None:
    """Run `sparks compare` with these arguments."""
    options, flags = _parse(arguments)
    if len(options.models) < 2 and not options.thinking:
        raise BadInput("two models are compared at least: sparks compare A B")
    quieten()
    compared = places(options.models)
    folder = Path(options.output_dir or _folder(compared))
    settings, thresholds = settings_of(flags, _before(compared))
    compared, pairs = _prompted(options, compared)
    made = parties(compared, pairs, Procedure(folder / "records", settings, thresholds))
    comparison = Comparison(made, relations(made), thresholds, settings.batch_size)
    if not comparison.contrasts:
        raise BadInput("the records have no contrast in common; give --pairs FILE.jsonl")
    sections = []
    for make in _sections(options):
        sections.append(make(comparison))
        show(sections[-1])
    if options.thinking:
        for line in ablations(sections[-1], options.models[0]):
            say(line)
    say(f"\ntables     {len(write(sections, folder)) - 1} in {folder}, sentences in findings.txt")


def _prompted(
    options: argparse.Namespace, compared: Sequence[Place]
) -> tuple[Sequence[Place], Sequence[Pairs]]:
    """What is compared, and each one's pairs; `BadInput` for what cannot be."""
    if options.thinking:
        if len(compared) > 1 or options.contrast:
            raise BadInput("--thinking compares the modes of one model: sparks compare MODEL")
        return in_modes(compared[0], options.pairs)
    if options.contrast:
        if options.pairs or not options.benchmarks:
            raise BadInput("openings are answers to problems: --benchmarks NAMES, and no --pairs")
        return compared, opening_pairs(compared, Openings.of(options))
    return compared, same_pairs(compared, options.pairs)


def _sections(options: argparse.Namespace) -> Sequence[Callable[[Comparison], Section]]:
    if options.thinking:
        return *SECTIONS[1:], breadth_section, modes_section  # one model has one base
    return (*SECTIONS, opening_section) if options.contrast else SECTIONS


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options, and the flags of the analysis."""
    parser = make_parser("compare", __doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="runs, folders or Hub names")
    parser.add_argument("--pairs", metavar="FILE.jsonl", help="prompt pairs, as text")
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


def _folder(compared: Sequence[Place]) -> Path:
    names = "-".join(place.name.replace("/", "-") for place in compared)
    return Path("runs") / f"compare-{names[:80]}"


def _before(compared: Sequence[Place]) -> dict[str, object]:
    """The settings and thresholds of the first run that has a record."""
    for place in compared:
        if place.run and place.step in place.run.ledger.steps():
            record = place.run.ledger.read(place.step)
            kept = {**record.settings, **record.thresholds}
            return {f"track_{name}": value for name, value in kept.items()}
    return {}
