"""The commands' own flags: parsers that refuse in one line."""

from __future__ import annotations

import argparse
from typing import NoReturn

from tracking.errors import BadInput


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
