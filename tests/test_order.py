"""Imports run against the data's order, never along it, and the rooms of the house stay small."""

import ast
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import tracking
from tests.builders.paths import REPO

LEAVES = {"errors", "atomic", "clock", "ranks"}
MAY_IMPORT = {  # besides its own and the leaves; the longest name that fits a module is its part
    **{leaf: set() for leaf in LEAVES},
    "ranks": {"errors"},
    "pairs": set(),
    "model": {"pairs"},
    "model.graph": set(),
    "patching": {"pairs", "model", "model.graph"},
    "attribution": {"pairs", "model", "model.graph", "patching"},
    "attribution.metrics": {"pairs", "model"},
    "attribution.importance": {"model.graph"},  # a function of scores that are there
    "stability.bootstrap": set(),
    "circuits": {
        "pairs",
        "model",
        "model.graph",
        "patching",
        "attribution",
        "stability.bootstrap",
    },
    "stability": {"model.graph", "circuits", "stability.bootstrap"},
    "nodes": {
        "pairs",
        "model",
        "model.graph",
        "patching",
        "attribution.metrics",
        "stability.bootstrap",
        "nodes.role_words",
    },
    "nodes.role_words": set(),  # data: it needs no model
    "interventions": {"pairs", "model"},
    "ledger": {"model.graph"},
    "timeline": {
        "ledger",
        "stability",
        "stability.bootstrap",
        "model.graph",
        "attribution.importance",
        "nodes.role_words",
        "run_folder",
    },
    "run_folder": {"ledger"},
    "comparison": {
        "pairs",
        "model",
        "model.graph",
        "patching",
        "attribution",
        "circuits",
        "nodes",
        "nodes.role_words",
        "stability",
        "stability.bootstrap",
        "interventions",
        "ledger",
        "timeline",
        "contrast",
        "settings",
    },
    "views": {"timeline", "ledger", "model.graph", "run_folder"},
}
FILES = sorted(
    path.relative_to(REPO)
    for folder in ("tracking", "train")
    for path in REPO.glob(f"{folder}/**/*.py")
)


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it, with the names that it takes from them."""
    for node in ast.walk(ast.parse((REPO / path).read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports by a relative name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def part(module: str, parts: set[str]) -> str | None:
    """The part of `tracking` in which a module lies; None for what may import everything."""
    fitting = [name for name in parts if f"{module}.".startswith(f"tracking.{name}.")]
    return max(fitting, key=len, default=None)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_run_against_the_order_of_the_data(path: Path) -> None:
    mine = part(".".join(path.with_suffix("").parts), set(MAY_IMPORT))
    ours = [name for name in imported(path) if name.split(".")[0] in ("tracking", "train")]
    if path.parts[0] == "tracking":
        assert [name for name in ours if name.startswith("train")] == []
    if mine:
        allowed = {mine, *MAY_IMPORT[mine], *(LEAVES if mine not in LEAVES else ())}
        assert [name for name in ours if not part(name, allowed)] == []


def test_no_public_name_of_tracking_is_a_submodule_too() -> None:
    assert [name for name in tracking.__all__ if find_spec(f"tracking.{name}")] == []


def test_files_and_folders_are_small() -> None:
    lines = {path: len((REPO / path).read_text().splitlines()) for path in FILES}
    assert {path: count for path, count in lines.items() if count > 400} == {}
    folders = Counter(path.parent for path in FILES)
    assert {path: count for path, count in folders.items() if count > 12} == {}


SAYS_NOTHING = {"found", "made", "told", "said", "taken"}


@pytest.mark.parametrize("room", ["tracking", "train", "scripts", "examples", "tests"])
def test_names_say_what_they_hold(room: str) -> None:
    files = sorted((REPO / room).rglob("*.py"))
    assert files
    for path in files:
        names = {name for node in ast.walk(ast.parse(path.read_text())) for name in _bound(node)}
        assert not SAYS_NOTHING & names, path


def _bound(node: ast.AST) -> Iterator[str]:
    """The names that a node of the syntax binds."""
    if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
        yield node.id if isinstance(node, ast.Name) else node.attr
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
