"""Groups of runs, as the command line names them: NAME=RUN,RUN... or NAME=runs/grpo-s*."""

from __future__ import annotations

from collections.abc import Sequence
from glob import glob
from pathlib import Path

from tracking.comparison.groups.figures import Run
from tracking.errors import BadInput
from tracking.run_folder import RunFolder
from tracking.timeline.timeline import Timeline
from train.comparison.places import base_of


def groups_of(words: Sequence[str]) -> dict[str, list[Run]]:
    """The runs of each group, by its name. Raises `BadInput` where fewer than two are named, a
    group has fewer than two runs, a name or a run is named twice, nothing fits a pattern, or a run
    has no record."""
    groups: dict[str, list[Run]] = {}
    named: set[Path] = set()
    for word in words:
        name, equals, rest = word.partition("=")
        if not name or not equals or not all(rest.split(",")):
            raise BadInput(f"--group is {word!r}; it must be like sft=runs/sft-s0,runs/sft-s1")
        if name in groups:
            raise BadInput(f"--group {name} is there twice; give its runs at once")
        folders = [Path(run) for part in rest.split(",") for run in _fitting(part)]
        for folder in folders:
            if folder.resolve() in named:
                raise BadInput(f"--group {name}: {folder} is named twice")
            named.add(folder.resolve())
        if len(folders) < 2:
            raise BadInput(f"--group {name} has one run; intervals over runs take two at least")
        groups[name] = [_run(folder) for folder in folders]
    if len(groups) < 2:
        raise BadInput("two groups are compared at least: --group A=RUN,RUN --group B=RUN,RUN")
    _check_contrasts(groups)
    return groups


def _fitting(pattern: str) -> list[str]:
    """The folders that a pattern fits, in order; a name as it is."""
    if not any(sign in pattern for sign in "*?["):
        return [pattern]
    folders = sorted(path for path in glob(pattern) if Path(path).is_dir())
    if not folders:
        raise BadInput(f"--group: no folder fits {pattern!r}")
    return folders


def _run(folder: Path) -> Run:
    run = RunFolder(folder)
    return Run(str(folder), base_of(run), Timeline.read(folder), run.config().get("seed"))


def _check_contrasts(groups: dict[str, list[Run]]) -> None:
    """Raise `BadInput` where runs track different contrasts, or are of other shapes."""
    runs = [run for of_group in groups.values() for run in of_group]
    first = runs[0]
    for run in runs[1:]:
        if run.timeline.contrasts != first.timeline.contrasts:
            raise BadInput(
                f"{run.name} tracks {', '.join(run.timeline.contrasts)}, {first.name} "
                f"{', '.join(first.timeline.contrasts)}; groups need the same contrasts"
            )
        if run.timeline.records[0].graph != first.timeline.records[0].graph:
            raise BadInput(f"{run.name} is of another shape than {first.name}: layers differ")
