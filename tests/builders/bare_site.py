"""A folder of packages to import from that holds some of those that are installed and no others."""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement


def needed(packages: Iterable[str]) -> set[str]:
    """The packages and all that they need, extras left out."""
    names: set[str] = set()
    todo = list(packages)
    while todo:
        name = todo.pop()
        if name in names:
            continue
        try:
            requirements = distribution(name).requires or ()
        except PackageNotFoundError:  # as CUDA's are, where torch is the CPU's
            continue
        names.add(name)
        wanted = map(Requirement, requirements)
        todo += [one.name for one in wanted if not one.marker or one.marker.evaluate({"extra": ""})]
    return names


def bare_site(folder: Path, packages: Iterable[str]) -> Path:
    """`folder`, with links to the modules of these packages and of what they need."""
    folder.mkdir()
    for name in needed(packages):
        of_name = distribution(name)
        for top in {file.parts[0] for file in of_name.files or () if file.parts[0] != ".."}:
            link = folder / top
            if top != "__pycache__" and not link.exists():
                link.symlink_to(Path(str(of_name.locate_file(top))))
    return folder
