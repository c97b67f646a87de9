"""Analyse checkpoints that any trainer made, or models in a row, into a folder like a run's.

    sparks track FOLDER --pairs FILE.jsonl --output_dir RUN
    sparks track MODEL MODEL ... --pairs FILE.jsonl --output_dir RUN

The folder has `heads/` and a `config.yaml` that says what was analysed, so that `sparks track RUN`
goes on with checkpoints that have come since.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from tracking.atomic import write_whole
from tracking.contrast import Subject
from tracking.errors import BadInput
from tracking.ledger.reward import reward_between
from tracking.nodes.weight_change import snapshot
from tracking.pairs.frozen import load_pairs
from tracking.pairs.pairs_file import read_pairs
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.pairs.text import padding
from tracking.run_folder import RunFolder
from tracking.settings import Settings
from tracking.timeline.activity import Thresholds
from tracking.views.conclusion import conclude
from tracking.views.terminal import Table
from tracking.worker import Worker
from train.checkpoints import folders, models, rewards
from train.checkpoints.models import Model
from train.checkpoints.records import make_record, set_aside_others
from train.data import contrasts
from train.data.contrasts import digit_ids
from train.flags.parsing import make_parser
from train.run.console import say
from train.run.folder import holds_run

FIRST_LINE = "# sparks track "
PARTS = (Settings, Thresholds)


@dataclass(frozen=True)
class Request:
    """What is to be analysed, and how, as `config.yaml` keeps it."""

    folder: Path  # where records go
    models: tuple[str, ...]  # one folder of checkpoints, or models in a row
    base: str | None  # the model of step 0, where it is not the first of them
    pairs: str | None  # a file; None where they are frozen already
    reward: str | None  # a CSV file
    settings: Settings
    thresholds: Thresholds


def is_ours(folder: Path) -> bool:
    """Whether a folder was made by this command."""
    try:
        return RunFolder(folder).config_path.read_text().startswith(FIRST_LINE)
    except (OSError, UnicodeDecodeError):
        return False


def request(
    words: Sequence[str],
    flags: Sequence[str],
    output: str | None,
    pairs: str | None,
    base: str | None,
    reward: str | None,
) -> Request:
    """The request that a command line means; what it leaves open is taken from an earlier one that
    made the same folder. Raises `BadInput` where pairs or folder are missing, or are no such."""
    if output is None:
        if len(words) > 1 or not is_ours(Path(words[0])):
            raise BadInput("--output_dir is missing: a folder for the records")
        output, words = words[0], ()
    folder = Path(output)
    ours = is_ours(folder)
    before = RunFolder(folder).config() if ours else {}
    if not ours and (holds_run(folder) or RunFolder(folder).config_path.exists()):
        raise BadInput(f"{folder} is a training run; choose another folder with --output_dir")
    if pairs is None and not RunFolder(folder).ledger.pairs_path.exists():
        raise BadInput("--pairs is missing: a JSONL file of prompt pairs (docs/pairs.md)")
    if pairs is not None and not Path(pairs).is_file():
        raise BadInput(f"--pairs {pairs}: no such file")
    named = tuple(map(_lasting, words)) or tuple(before.get("models") or ())
    if not named:
        raise BadInput(f"{RunFolder(folder).config_path} does not say which models it is of")
    return Request(
        folder,
        named,
        _lasting(base) if base else before.get("base"),
        _lasting(pairs) if pairs else None,
        _lasting(reward) if reward else before.get("reward"),
        *settings_of(flags, before),
    )


def track(asked: Request, device_map: str | None = None) -> None:
    """Make every record that is missing, the timeline, the report and the picture; models are
    loaded by accelerate's `device_map`, where one is given."""
    run, view = RunFolder(asked.folder), Table()
    by_step = _models(asked)
    load = partial(_load, device_map=device_map)
    history = _history(asked, by_step)
    tokenizer = models.tokenizer(by_step.values())
    worker = Worker(run.ledger, _pairs(asked, tokenizer), asked.settings, asked.thresholds)
    _check_same(run, by_step)
    for damage in worker.take_up(max(1, *by_step, *run.ledger.steps())):
        say(damage)
    set_aside_others(asked.folder, run.ledger, asked.settings, [*by_step])
    _write(asked, by_step)
    todo = [step for step in by_step if step not in run.ledger.steps()]
    if not todo:
        say(f"tracked    {run.path}: every checkpoint has its record")
    else:
        say(f"pairs      {contrasts.describe(dict(worker.pairs))}")
        say(f"tracking   {len(todo)} of {len(by_step)} checkpoints")
        _analyse(worker, by_step, todo, history, digit_ids(tokenizer), view, load)
    if not run.ledger.steps():
        raise BadInput(f"{run.ledger.folder} has no records: no checkpoint could be analysed")
    conclude(run, worker.derive(), view)


def rebuild(folder: Path, flags: Sequence[str]) -> None:
    """Make the timeline, the report and the picture again from the records."""
    run, view = RunFolder(folder), Table()
    if not run.ledger.steps():
        raise BadInput(f"{run.ledger.folder} has no records; sparks track {folder} makes them")
    timeline = Worker(run.ledger, {}, *settings_of(flags, run.config())).derive()
    for step in run.ledger.steps():
        view.show(timeline, step)
    conclude(run, timeline, view)


def _analyse(
    worker: Worker,
    by_step: Mapping[int, Model],
    todo: Sequence[int],
    history: Sequence[Mapping[str, Any]],
    digits: Any,
    view: Table,
    load: Callable[[Worker, Model], Any],
) -> None:
    """The base is looked at first: the others are compared with it."""
    first = min({*by_step, *worker.ledger.steps()})
    change = None
    if first in by_step:
        change = snapshot(load(worker, by_step[first]))
    else:
        say(f"note       the model of step {first} is gone: weights have no change since it")
    worker.subject = Subject(change, digits)
    for step in todo:
        model = by_step[step]
        reward = reward_between(history, worker.ledger.before(step, by_step), step, "reward")
        loads, unchanged = partial(load, worker, model), _unchanged(model.source.files)
        make_record(worker, step, partial(worker.work, step, loads, reward, unchanged), view)


def _load(worker: Worker, model: Model, device_map: str | None) -> Any:
    """The model with its weights; `BadInput` where it cannot be analysed."""
    loaded = model.load(device_map)
    worker.check(loaded)
    return loaded


def _unchanged(files: Path) -> Callable[[], bool]:
    """Whether the weights in a folder are those that were there when this was called."""
    before = folders.identity(files)
    return lambda: folders.identity(files) == before


def _models(asked: Request) -> dict[int, Model]:
    """The models by step, in order, none of them loaded; `BadInput` where they cannot be analysed
    or are not of one shape."""
    base = models.locate(asked.base) if asked.base else None
    sources = {0: base} if base else {}
    if _is_folder(asked.models):
        for step, path in folders.checkpoints(Path(asked.models[0]), say).items():
            if step in sources:
                raise BadInput(f"{path} is step 0, and so is --base {asked.base}; leave one out")
            sources[step] = models.locate(str(path))
    else:
        located = map(models.locate, asked.models)
        sources.update(enumerate(located, start=len(sources)))
    by_step = {step: models.describe(source, base) for step, source in sources.items()}
    first = next(iter(by_step.values()))
    for model in by_step.values():
        if difference := model.differs(first):
            raise BadInput(f"{difference}; all checkpoints of a ledger have one shape")
    return by_step


def _is_folder(words: Sequence[str]) -> bool:
    """Whether this is one folder with checkpoints in it, and not models in a row."""
    path = Path(words[0])
    if len(words) > 1 or not path.is_dir():
        return False
    named = any(folders.STEP.fullmatch(inner.name) for inner in path.iterdir())
    return named or not folders.holds_model(path)


def _history(asked: Request, by_step: Mapping[int, Model]) -> list[dict[str, Any]]:
    """The log of the reward; empty where there is none."""
    if asked.reward:
        return rewards.read_csv(Path(asked.reward))
    if not _is_folder(asked.models):
        return []  # places in a row are no steps of a log
    inside = Path(asked.models[0]).resolve()
    files = (model.source.files for model in by_step.values())
    return rewards.logged([path for path in files if path.is_relative_to(inside)], inside)


def _pairs(asked: Request, tokenizer: Any) -> dict[str, PromptPairs]:
    """The pairs of the file, or those that are frozen; `BadInput` where a contrast has only one."""
    if asked.pairs is None:
        return load_pairs(RunFolder(asked.folder).ledger.pairs_path)
    by_contrast = read_pairs(asked.pairs, tokenizer)
    for contrast, of_contrast in by_contrast.items():
        if len(of_contrast) < 2:
            raise BadInput(f"{asked.pairs}: {contrast!r} has 1 pair; at least 2, better 128")
    return {
        contrast: PromptPairs.padded(of_contrast, padding(tokenizer))
        for contrast, of_contrast in by_contrast.items()
    }


def _check_same(run: RunFolder, by_step: Mapping[int, Model]) -> None:
    """Raise `BadInput` where the folder's records are of other models, or begin later."""
    before = run.config().get("steps") or {}
    for step, model in by_step.items():
        if before.get(step, str(model.source)) != str(model.source):
            raise BadInput(
                f"{run.path}: step {step} was {before[step]}, is {model.source}; choose another "
                "--output_dir"
            )
    if before and min(by_step) < min(before):
        raise BadInput(
            f"{run.path}: step {min(by_step)} comes before step {min(before)}, with which all "
            "records were compared; choose another --output_dir"
        )


def _write(asked: Request, by_step: Mapping[int, Model]) -> None:
    """Write `config.yaml`: what was asked for, and which model every step is that has a record or
    will get one."""
    path = RunFolder(asked.folder).config_path
    before, recorded = RunFolder(asked.folder).config(), RunFolder(asked.folder).ledger.steps()
    steps = {step: was for step, was in (before.get("steps") or {}).items() if step in recorded}
    kept = {
        "models": list(asked.models),
        "base": asked.base,
        "pairs": asked.pairs or before.get("pairs"),
        "reward": asked.reward,
        "steps": {**steps, **{step: str(model.source) for step, model in by_step.items()}},
        **{
            f"track_{name}": value
            for part in (asked.settings, asked.thresholds)
            for name, value in dataclasses.asdict(part).items()
        },
    }
    text = f"{FIRST_LINE}{asked.folder}\n{yaml.safe_dump(kept, sort_keys=False)}"
    write_whole(path, text.encode())


def settings_of(flags: Sequence[str], before: Mapping[str, Any]) -> tuple[Settings, Thresholds]:
    """What `--track_...` flags say, else what was settled before, else the defaults."""
    parser = make_parser("track", None)
    for part in PARTS:
        for item in dataclasses.fields(part):
            flag = f"track_{item.name}"
            value = before.get(flag, item.default)
            parser.add_argument(f"--{flag}", type=type(item.default), default=value)
    given = vars(parser.parse_args(list(flags)))

    def values(part: type[Settings] | type[Thresholds]) -> dict[str, Any]:
        return {item.name: given[f"track_{item.name}"] for item in dataclasses.fields(part)}

    return Settings(**values(Settings)), Thresholds(**values(Thresholds))


def _lasting(word: str) -> str:
    """A path that holds from any folder; a Hub name as it is."""
    return str(Path(word).resolve()) if Path(word).exists() else word
