"""The commands' own flags: parsers that refuse in one line."""

from __future__ import annotations

import argparse
import dataclasses
from typing import NoReturn

from tracking.errors import BadInput
from tracking.timeline.activity import Thresholds


def make_parser(command: str, description: str | None) -> argparse.ArgumentParser:
    """A parser for `sparks <command>`. Its `--help` keeps the description's lines; a mistake is a
    `BadInput` that says what would be right."""
    parser = argparse.ArgumentParser(
        prog=f"sparks {command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )

    def refuse(message: str) -> NoReturn:
        raise BadInput(f"{message}; {' '.join(parser.format_usage().split())}")

    parser.error = refuse  # type: ignore[method-assign]
    return parser


def add_thresholds(parser: argparse.ArgumentParser) -> None:
    """Flags for the thresholds by which records are read."""
    group = parser.add_argument_group("thresholds, by default the run's own")
    for item in dataclasses.fields(Thresholds):
        group.add_argument(
            f"--track_{item.name}", type=float, metavar="X", help=item.metadata["help"]
        )


def thresholds_of(options: argparse.Namespace) -> dict[str, float]:
    """Those that were given, by their names; `BadInput` where one makes no sense."""
    names = [item.name for item in dataclasses.fields(Thresholds)]
    given = {name: getattr(options, f"track_{name}") for name in names}
    changed = {name: value for name, value in given.items() if value is not None}
    Thresholds(**changed)
    return changed
