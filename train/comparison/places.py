"""What a word in the command line names: a run's checkpoint, or a model that anyone made.

RUN, RUN@40, RUN/checkpoint-40     the record of a run, its last one if no step is named
FOLDER, NAME, NAME@REVISION        a model: a folder, the Hub's, or one that Sparks names
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tracking.errors import BadInput
from tracking.run_folder import RunFolder
from train.checkpoints import folders, models
from train.checkpoints.models import Model
from train.run import resume
from train.run.console import say
from train.run.manifest import Manifest
from train.tasks.registry import MODELS
from train.tiny.base import BASES, SHIPPED

RUN_STEP = re.compile(r"(?P<run>.+)@(?P<step>\d+)")


@dataclass(frozen=True)
class Place:
    """Where a model and what is known of it lie; nothing is loaded."""

    name: str  # as it is called in what is shown
    run: RunFolder | None  # whose checkpoint it is
    step: int
    model: Model | None  # None where its weights are gone
    base: str | None  # the model that the run began with


def places(words: Sequence[str]) -> list[Place]:
    """What each word names. Raises `BadInput` where it is nothing, or is named twice."""
    located = [_place(word) for word in words]
    checkpoints = [(one.run.path.resolve(), one.step) if one.run else one.name for one in located]
    for index, checkpoint in enumerate(checkpoints):
        if checkpoint in checkpoints[:index]:
            raise BadInput(
                f"{words[index]} is {words[checkpoints.index(checkpoint)]}: it is named twice; "
                "name each model once"
            )
    return [replace(one, name=name) for one, name in zip(located, _names(located), strict=True)]


def ends(run: Path) -> list[Place]:
    """The first and the last checkpoint of a run, a control; `BadInput` where it has no two."""
    if not is_run(run):
        raise BadInput(f"--control {run}: no such run")
    steps = _steps(RunFolder(run))
    if len(steps) < 2:
        raise BadInput(f"--control {run}: it takes two checkpoints, the first and the last")
    return [replace(_of_run(run, step), name=f"control@{step}") for step in (steps[0], steps[-1])]


def base_of(run: RunFolder) -> str | None:
    """The base that a run names, or the first stage of its training: of those that Sparks makes,
    with its seed."""
    config = run.config()
    while (earlier := config.get("track_base")) and is_run(Path(earlier)):
        config = RunFolder(Path(earlier)).config()
    if "steps" in config:  # by `sparks track`
        return str(config["steps"][min(config["steps"])])
    if name := config.get("model_name_or_path"):
        return _in_words(str(name), int(config.get("seed") or 0))
    return None


def _in_words(name: str, seed: int) -> str:
    """A base as Sparks calls it, also where a run names the folder of a shipped one."""
    shipped = {BASES / f"seed{one}": one for one in SHIPPED}
    if (folder := Path(name).resolve()) in shipped:
        name, seed = "tiny", shipped[folder]
    return f"{name} of seed {seed}" if name in MODELS and MODELS[name].seeded else name


def began_with(run: RunFolder, model: Model) -> bool:
    """Whether a run, or an earlier stage of it, began with a model: with its very weights, in the
    coarser of both precisions. Also where what it began with is no longer there to look at."""
    start = _saved(run).get(0)
    if start is None:
        return True
    first = models.describe(models.locate(start))
    if first.source.files == model.source.files or _same_weights(first.load(), model.load()):
        return True
    stage = run.config().get("track_base")
    return bool(stage) and began_with(RunFolder(Path(stage)), model)


def _same_weights(one: Any, other: Any) -> bool:
    mine, others = one.state_dict(), other.state_dict()
    return mine.keys() == others.keys() and all(
        torch.equal(*(weight.to(min((a, b), key=lambda w: w.itemsize).dtype) for weight in (a, b)))
        for a, b in ((mine[name], others[name]) for name in mine)
    )


def is_run(folder: Path) -> bool:
    """Whether a folder is a run: it has records, or a job's `config.yaml`."""
    run = RunFolder(folder)
    return folder.is_dir() and bool(run.ledger.steps() or run.config())


def _place(word: str) -> Place:
    path, named = Path(word), RUN_STEP.fullmatch(word)
    if is_run(path):
        return _of_run(path, None)
    if named and is_run(Path(named["run"])):
        return _of_run(Path(named["run"]), int(named["step"]))
    step = folders.STEP.fullmatch(path.name)
    if step and is_run(path.parent):
        return _of_run(path.parent, int(step[1]))
    folder = str(MODELS[word].folder(0)) if word in MODELS else word
    return Place(word, None, 0, models.describe(models.locate(folder)), None)


def _of_run(folder: Path, wanted: int | None) -> Place:
    """Of a step, or the last that has a record or, without any, a whole checkpoint."""
    run = RunFolder(folder)
    recorded, saved = run.ledger.steps(), _saved(run)
    there = _steps(run)
    step = max(recorded or saved, default=None) if wanted is None else wanted
    if step is None or step not in there:
        have = f"there is {', '.join(map(str, there))}" if there else "nor any other"
        raise BadInput(f"{folder} has no checkpoint and no record of step {step}; {have}")
    name = str(folder) if wanted is None else f"{folder}@{step}"
    return Place(name, run, step, _model(name, saved.get(step), step in recorded), base_of(run))


def _model(name: str, word: str | None, recorded: bool) -> Model | None:
    """None where there is none, or where it cannot be had and its record does without."""
    if word is None:
        return None
    try:
        return models.describe(models.locate(word))
    except BadInput as error:
        if not recorded:
            raise
        say(f"note       {name} by its record alone: {error}")
        return None


def _steps(run: RunFolder) -> list[int]:
    """Those that have a record, or whose model is there."""
    return sorted({*run.ledger.steps(), *_saved(run)})


def _saved(run: RunFolder) -> dict[int, str]:
    """The models that are there still, by step, as `models.locate` takes them."""
    config = run.config()
    if "steps" in config:  # by `sparks track`
        steps = {int(step): str(model) for step, model in config["steps"].items()}
        return {step: model for step, model in steps.items() if not _is_gone(model)}
    saved = {step: str(path) for step, path in resume.complete(run.path, resume.silent).items()}
    if start := _start(config):
        saved[0] = start
    with suppress(BadInput):  # it has not ended
        saved.setdefault(Manifest.read(run.path).step, str(run.path))
    return saved


def _start(config: dict[str, Any]) -> str:
    """The model that a training run began with; empty where it is no longer there."""
    name = str(config.get("model_name_or_path") or "")
    if name in MODELS:
        return str(MODELS[name].folder(int(config.get("seed") or 0)))
    if _is_gone(name):
        return ""
    revision = config.get("model_revision")
    return f"{name}@{revision}" if name and revision and not Path(name).is_dir() else name


def _is_gone(model: str) -> bool:
    """Whether this is a folder that is no longer there."""
    return Path(model).is_absolute() and not Path(model).is_dir()


def _names(located: Sequence[Place]) -> list[str]:
    """The shortest ends of their paths that tell them apart."""
    parts = [Path(place.name).parts for place in located]
    for index, one in enumerate(parts):
        if one in parts[:index]:
            raise BadInput(f"{located[index].name} is named twice; name each model once")
    for length in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return []
