"""The documents: links lead somewhere, the map has every folder, and every key exists."""

import ast
import dataclasses
import re
from importlib import import_module
from pathlib import Path

import pytest

from tracking.settings import Settings
from tracking.timeline.activity import Thresholds

REPO = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(REPO).as_posix()
    for path in (REPO / "README.md", REPO / "CONTRIBUTING.md", REPO / "CHANGELOG.md",
                 *REPO.glob("docs/*.md"), *REPO.glob("examples/*.md"))
)  # fmt: skip
HISTORY = ("CHANGELOG.md",)  # names what is no more
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
KEY = re.compile(r"\btrack_[a-z_]*[a-z](?![a-z_*])")
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)

pages = pytest.mark.parametrize("page", PAGES)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+?) *$", FENCED.sub("", page.read_text()), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def imported(page: str) -> set[str]:
    """What a page's Python takes from `tracking`; a `SyntaxError` where a block is none."""
    blocks = re.findall(
        r"^```python\n(.*?)^```", (REPO / page).read_text(), re.DOTALL | re.MULTILINE
    )
    nodes = (node for block in blocks for node in ast.walk(ast.parse(block)))
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return {
        f"{node.module}.{name.name}"
        for node in froms
        for name in node.names
        if str(node.module).startswith("tracking")
    }


@pages
def test_python_on_a_page_can_be_read_and_imported(page: str) -> None:
    for path in imported(page):
        module, _, name = path.rpartition(".")
        assert hasattr(import_module(module), name), f"{page}: no {path}"


@pages
def test_every_relative_link_leads_somewhere(page: str) -> None:
    for link in LINK.findall(FENCED.sub("", (REPO / page).read_text())):
        if re.match(r"[a-z]+:", link):
            continue  # to another site
        name, _, anchor = link.partition("#")
        target = (REPO / page).parent / name if name else REPO / page
        assert target.exists(), f"{page} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{page} links to {link}: no such heading"


def test_every_page_is_in_the_index() -> None:
    linked = set(LINK.findall((REPO / "docs/index.md").read_text()))
    assert {path.name for path in REPO.glob("docs/*.md")} - linked == {"index.md"}


def test_the_readme_can_be_read_at_once() -> None:
    assert len((REPO / "README.md").read_text().splitlines()) <= 130


def test_every_page_on_adding_something_is_short() -> None:
    sections = re.split(r"^## ", (REPO / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)
    adding = {one.partition("\n")[0]: one for one in sections if one.startswith("Add ")}
    assert len(adding) >= 6
    for title, section in adding.items():
        assert len(section.strip().splitlines()) - 1 <= 15 + 1, title  # and a blank one


def test_the_map_has_every_folder() -> None:
    readme = (REPO / "README.md").read_text()
    for package in ("tracking", "train"):
        for folder in (path.parent for path in REPO.glob(f"{package}/*/__init__.py")):
            assert f"`{folder.relative_to(REPO).as_posix()}/`" in readme
    for name in ("recipes", "scripts", "docs", "examples", "tests"):
        assert f"`{name}/`" in readme and (REPO / name).is_dir()


def test_the_map_names_no_folder_that_is_not_there() -> None:
    for name in re.findall(r"`((?:tracking|train)/[\w./]*)`", (REPO / "README.md").read_text()):
        assert (REPO / name).exists(), name


def test_tests_that_documents_name_are_there() -> None:
    tests = "".join(path.read_text() for path in (REPO / "tests").rglob("test_*.py"))
    named = {
        name
        for path in (REPO / "docs").glob("*.md")
        for name in re.findall(r"`(test_\w+)`", path.read_text())
    }
    assert len(named) > 30
    assert {name for name in named if f"def {name}(" not in tests} == set()


def fields_of(kind: type) -> set[str]:
    return {item.name for item in dataclasses.fields(kind)}  # type: ignore[arg-type]


def flags() -> set[str]:
    """Every key of ours that a recipe or a command line takes, by the job's arguments."""
    there = vars(import_module("train.config")).values()
    types = [kind for kind in there if isinstance(kind, type) and dataclasses.is_dataclass(kind)]
    names = set().union(*(fields_of(kind) for kind in types))
    return {name for name in names if name == "track" or name.startswith("track_")}


def settings() -> set[str]:
    return {f"track_{name}" for kind in (Settings, Thresholds) for name in fields_of(kind)}


@pytest.mark.parametrize("page", [page for page in PAGES if page not in HISTORY])
def test_every_key_that_is_named_exists(page: str) -> None:
    named = set(KEY.findall((REPO / page).read_text()))
    assert named <= flags() | settings(), f"{page} names keys that no job takes"


def test_every_key_is_documented() -> None:
    table = (REPO / "docs/train.md").read_text()
    assert {flag for flag in flags() if f"`{flag}`" not in table} == set()
