"""A recipe's file: flat YAML, each key once."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Collection, Hashable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from tracking.errors import BadInput

RENAMED = {
    "track_probes": "track_contrasts",
    "track_steps": "track_ig_steps",
    "track_max_steps": "track_max_ig_steps",
    "track_effect": "track_share",
    **{
        f"track_probe_{name}": f"track_pairs_{name}"
        for name in ("dataset", "config", "split", "count", "minimum", "solution_tokens")
    },
}  # keys of the first version, and what they are called now
DECLARED = {
    "trl": ("trainer/*_config.py", "scripts/*.py"),
    "transformers": ("training_args.py",),
    "train": ("arguments.py", "config.py"),
    "tracking": ("settings.py", "timeline/activity.py"),
}  # where keys stand as the fields of data classes


def look(arguments: Sequence[str]) -> None:
    """Refuse what needs no library to be loaded to be known for a mistake: a recipe that is none,
    names of the first version, and keys that nothing declares."""
    flags = [word.partition("=")[0] for word in arguments]
    for flag in flags:
        if flag.removeprefix("--") in RENAMED:
            raise BadInput(f"unknown flag {flag!r}{nearest(flag.removeprefix('--'), (), '--')}")
    if "--config" not in flags:
        return
    _, given, path = arguments[at := flags.index("--config")].partition("=")
    if not given and at + 1 < len(arguments):
        path = arguments[at + 1]
    known = declared()
    for key in read(path) if path else ():
        if key not in known and key != "env":
            raise BadInput(f"{path}: unknown key {key!r}{nearest(key, known)}")


def nearest(key: str, known: Collection[str], dashes: str = "") -> str:
    """What an unknown key is called now, or which of those `known` it may mean, as the end of a
    line; empty where none is like it."""
    if key in RENAMED:
        return f"; it is called {dashes + RENAMED[key]!r} now"
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean {dashes + near[0]!r}?" if near else ""


def declared() -> set[str]:
    """Every name that a field of the libraries' and our own arguments has, read from their source,
    since to load them takes seconds. More than any one command takes: its parser has the last word.
    """
    names = set()
    for package, patterns in DECLARED.items():
        spec = find_spec(package)
        assert spec is not None and spec.submodule_search_locations is not None
        folder = Path(spec.submodule_search_locations[0])
        for path in (path for pattern in patterns for path in folder.glob(pattern)):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    names.add(
                        node.target.id if package != "tracking" else f"track_{node.target.id}"
                    )
    return names


def read(path: str) -> dict[str, Any]:
    """The keys and values of a recipe; `BadInput` in one line where it is not one."""
    try:
        config = yaml.load(Path(path).read_text(), _Once)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such recipe") from None
    except _Twice as error:
        raise BadInput(f"{path}, line {error.line}: {error}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    except (ValueError, RecursionError) as error:  # a date of month 13; brackets without end
        raise BadInput(f"{path}: cannot be read as YAML: {type(error).__name__}") from None
    if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
        raise BadInput(f"{path}: a recipe is a flat mapping of keys to values")
    if not isinstance(config.get("env") or {}, dict):
        raise BadInput(f"{path}: env must be a mapping of names to values")
    return config


class _Twice(Exception):
    """A key stands twice in a mapping."""

    def __init__(self, key: object, line: int, before: int) -> None:
        super().__init__(f"{key!r} stands in line {before} already; keep one of the two")
        self.line = line


class _Once(yaml.SafeLoader):
    """Refuses a mapping in which a key stands twice; YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[Any, int] = {}
        for name, _ in node.value:
            if name.value == "<<" or not isinstance(name, yaml.ScalarNode):
                continue
            line = name.start_mark.line + 1
            if name.value in lines:
                raise _Twice(name.value, line, lines[name.value])
            lines[name.value] = line
        return super().construct_mapping(node, deep)
